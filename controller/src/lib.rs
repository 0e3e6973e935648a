//! See Cargo.toml.

pub mod decide;
pub mod elections;
pub mod liveness;
pub mod placement;
