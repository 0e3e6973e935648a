//! What clients of a cluster saw, written down, and what must hold of it.
//!
//! Chaos runs and simulations record a history: operations with their times and outcomes, what was read, which faults
//! were at work. A checker reads it in linear time and tells lost, repeated, reordered, invented and damaged records;
//! a report shows the run on one page. Knows no client, no network, no runtime and no clock: times are given to it.
//!
//! | module | what |
//! |---|---|
//! | [`event`] | what a history consists of |
//! | [`payload`] | what a record carries so that it can be recognised |
//! | [`recorder`] | records from many threads |
//! | [`format`] | histories as files |
//! | [`check`] | what must hold, and the verdict |
//! | [`replicas`] | what lies on the disks in the end |
//! | [`report`] | the verdict for people |
//! | [`generate`] | histories from a seed, good ones and broken ones |
//!
//! A recording goes like this: [`Recorder::create`]; declare clients and partitions; encode a [`Payload`] for every
//! record (`producer` is the declared reference); record a [`event::Produce`] for each outcome, a [`event::Poll`] for
//! each answer to a consumer, an [`event::Assign`] whenever a consumer is put somewhere; begin and end faults; when the
//! load has ended and every outcome is recorded, read all partitions from their log start with
//! [`event::Reading::Final`]; [`Recorder::finish`]. Then [`check_file`].

pub mod check;
pub mod event;
pub mod format;
pub mod generate;
pub mod payload;
pub mod recorder;
mod refs;
pub mod replicas;
pub mod report;

pub use check::{Checker, Judgement, Kind, Options, Verdict, check_events, check_file};
pub use event::{At, Event};
pub use payload::Payload;
pub use recorder::Recorder;
