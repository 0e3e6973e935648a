//! What every daemon shares, whatever it serves. It must not know topics, partitions or protocols.
//!
//! | module | what it is for |
//! |---|---|
//! | [`config`] | the config file: one table of properties, from which parsing, checking and the reference come |
//! | [`telemetry`] | logs, for people or as JSON |
//! | [`metrics`] | the registry behind `/metrics`, and the figures of the process itself |
//! | [`health`] | which part of the node is ready, and why not |
//! | [`limits`] | how many files the process may have open |
//! | [`http`] | `/health/live`, `/health/ready`, `/metrics` |
//! | [`bind`] | listeners, with an error that says what to do about a port in use |
//! | [`shutdown`] | SIGTERM and SIGINT, and an ordered end |
//! | [`fatal`] | the named ways to die |
//! | [`notify`] | what systemd is told |
//! | [`watchdog`] | whether workers of the runtime are held up |
//!
//! A daemon's `main` reads a [`config::Config`], starts [`telemetry`], binds, starts its parts with a
//! [`health::Component`], a [`metrics::Metrics`] and a [`fatal::FatalHandler`] each, and runs
//! [`shutdown::Stages`] when [`shutdown::Shutdown`] is triggered.

pub mod bind;
pub mod config;
pub mod fatal;
pub mod health;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod notify;
pub mod shutdown;
pub mod telemetry;
pub mod watchdog;

pub use config::Config;
