//! Scenarios: clusters of real processes of the real binary, to which things happen.
//!
//! | module | what happens |
//! |---|---|
//! | `walk` | what the README promises a newcomer |
//! | `kills` | `kill -9` of leaders, followers, controllers and all at once, in a loop, under load |
//! | `pauses` | SIGSTOP of leaders, followers and the active controller |
//! | `isolation` | a leader that is cut off from everybody, and lives |
//! | `restarts` | rolling and whole restarts, replaced disks, controllers and brokers apart |
//! | `quorum` | controllers lost, wiped, added and removed; many changes of metadata |
//! | `replicas` | too few replicas, and replicas that have much to catch up with |
//! | `topics` | topics deleted and made anew, records deleted, retention, leaders moved |
//! | `disks` | log directories that fail, disks that are full |
//! | `descriptors` | fewer file descriptors than partitions have files, and more connections than there is room for |
//! | `damage` | flipped bits on disks |
//! | `inputs` | bad input from the command line, config files and requests |
//! | `noise` | random bytes and bent messages on every listener |
//!
//! Every scenario under load ends with all acknowledged records read back and counted. Environment: `VLTAVA_BIN` runs
//! another binary, `VLTAVA_ROUNDS` makes loops longer, `VLTAVA_SEED` repeats one, `VLTAVA_KEEP` keeps the nodes' files of a
//! scenario that failed.

mod api;
mod damage;
mod descriptors;
mod disks;
mod inputs;
mod isolation;
mod kills;
mod noise;
mod pauses;
mod quorum;
mod replicas;
mod restarts;
mod support;
mod topics;
mod walk;
