//! What the system allows a process, taken whole: shells allow few open files by default, and each written partition needs two.

use rustix::process::{Resource, getrlimit, setrlimit};

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
}
