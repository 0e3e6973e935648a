//! The log as a whole: one behaviour a test, then against a naive twin, under crashes, damage and concurrent readers.

mod basics;
mod damage;
mod model;
mod resync;
mod stress;
