//! Scenarios: clusters of real processes of the real binary, to which things happen.
//!
//! | module | what happens |
//! |---|---|
//! | `walk` | what the README promises a newcomer |
//! | `kills` | `kill -9` of leaders, followers, controllers and all at once, in a loop, under load |
//!
//! Every scenario under load ends with all acknowledged records read back and counted. Environment: `VLTAVA_BIN` runs
//! another binary, `VLTAVA_ROUNDS` makes loops longer, `VLTAVA_SEED` repeats one, `VLTAVA_KEEP` keeps the nodes' files of a
//! scenario that failed.

mod api;
mod disks;
mod inputs;
mod kills;
mod pauses;
mod quorum;
mod replicas;
mod restarts;
mod support;
mod topics;
mod walk;
