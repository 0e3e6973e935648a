//! Tests of images, deltas and snapshots: rules one by one, then properties over random valid logs.

mod generate;
mod properties;
mod rules;
mod scale;
