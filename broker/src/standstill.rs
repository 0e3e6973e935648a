//! Whether a shard of this broker stands still since a disk does not answer it. Nobody can write to what it owns then, so others
//! have to lead: the broker's session with the controller ends until the shard moves again.
//!
//! A sync that hangs holds up only the journal, whose leaders step down by themselves; this is for calls that a shard waits for.
//! When a call hangs is said in [`calls`](vltava_storage::calls). Knows
//! neither partitions nor controllers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vltava_storage::calls::Watch;
use vltava_threads::lock;

/// The calls that the shards' threads are at.
#[derive(Debug, Default)]
pub struct ShardCalls {
    watches: Mutex<Vec<Arc<Watch>>>,
}

impl ShardCalls {
    /// The thread that calls this is a shard's.
    pub fn attend(&self) {
        let watch = Arc::new(Watch::default());
        watch.attend();
        lock(&self.watches).push(watch);
    }

    /// How long the one has waited that has waited longest.
    pub fn longest(&self) -> Option<Duration> {
        lock(&self.watches).iter().filter_map(|watch| watch.waits()).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_of_any_shard_counts() {
        let calls = Arc::new(ShardCalls::default());
        assert_eq!(calls.longest(), None);
        let (hang_up, hangs) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let of_thread = calls.clone();
        let shard = std::thread::spawn(move || {
            of_thread.attend();
            vltava_storage::calls::noted(|| {
                tell.send(()).unwrap();
                let _ = hangs.recv();
            });
        });
        told.recv().unwrap();
        // Another shard that works.
        calls.attend();
        assert!(calls.longest().is_some());
        drop(hang_up);
        shard.join().unwrap();
        assert_eq!(calls.longest(), None);
    }
}
