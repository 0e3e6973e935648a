//! What the system allows a process, taken whole: shells allow few open files by default, and each log that is used has two open.
//! And what it gives unasked, refused: memory in huge pages.
//!
//! How many descriptors are for logs' files and how many for connections is settled at the start, so that neither takes what
//! the other needs.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Taken where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Descriptors of a node that are neither logs' files nor clients' connections: journals, metadata, listeners, what a runtime
/// needs, connections to other nodes, and what is open for a moment only.
const OTHERS: usize = 128;

/// More connections than this are not what descriptors are kept for.
const CONNECTIONS_MAX: usize = 50_000;

/// What a node may have open at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// Files of logs.
    pub files: usize,
    /// Connections of clients and of other brokers.
    pub connections: usize,
}

impl Descriptors {
    /// The share of each of `nodes` nodes in a process that may have `limit` files open, `None` for as many as it wants.
    pub fn share(limit: Option<u64>, nodes: usize) -> Self {
        let limit = usize::try_from(limit.unwrap_or(UNLIMITED)).unwrap_or(usize::MAX) / nodes.max(1);
        // Of very few it takes half, and waits when that is not enough.
        let left = limit.saturating_sub(OTHERS).max(limit / 2);
        let connections = (left / 4).clamp(1, CONNECTIONS_MAX);
        Self { files: left.saturating_sub(connections).max(2), connections }
    }
}

/// Raises the number of files that this process may have open to what the system allows at most; returns how many that are now,
/// `None` where there is no limit.
pub fn raise_open_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => getrlimit(Resource::Nofile).current,
        Err(error) => {
            tracing::warn!(%error, ?before, "cannot raise the limit of open files");
            before
        }
    }
}

/// Has this process' memory come in pages of 4 KiB, whatever the system's default: where that is 2 MiB, an allocator that
/// uses a little of each of many pages has all of them, three times the memory of an idle node.
pub fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "cannot refuse huge pages: the node may take more memory than it needs");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Rlimit;

    use super::*;

    #[test]
    fn the_limit_is_what_the_system_allows_at_most() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum }).unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(512));
        assert_eq!(raise_open_files(), maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn logs_and_connections_together_leave_room_for_the_rest() {
        assert_eq!(Descriptors::share(Some(20_000), 1), Descriptors { files: 14_904, connections: 4_968 });
        assert_eq!(Descriptors::share(Some(20_000), 3), Descriptors { files: 4_904, connections: 1_634 });
        assert_eq!(Descriptors::share(None, 1).connections, CONNECTIONS_MAX);
        for limit in 8..5_000 {
            let Descriptors { files, connections } = Descriptors::share(Some(limit), 1);
            assert!(files >= 2 && connections >= 1);
            let rest = limit as usize - files - connections;
            assert!(rest >= OTHERS.min(limit as usize / 2), "{limit}");
        }
    }
}
