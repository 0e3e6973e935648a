//! Where a run's files lie; what runs that were cut short left behind is removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::Fallible;

const PREFIX: &str = "vltava-chaos-";
/// Says that a run's files are worth looking at.
const KEEP: &str = "KEEP";
const LOCK: &str = "lock";

/// A run's directory.
pub struct Site {
    dir: PathBuf,
    kept: bool,
    _lock: File,
}

impl Site {
    /// A new directory in `parent`, after removing those of runs that ended without tidying up.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn make(parent: &Path, seed: u64) -> Fallible<Self> {
        fs::create_dir_all(parent)?;
        for stale in stale(parent)? {
            eprintln!("removing what an earlier run left behind: {}", stale.display());
            fs::remove_dir_all(stale)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let dir = parent.join(format!("{PREFIX}{seed}-{now}"));
        fs::create_dir(&dir)?;
        let lock = File::create(dir.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir, kept: false, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Keeps it when the run ends, and afterwards.
    ///
    /// # Errors
    /// When that can't be noted.
    pub fn keep(&mut self) -> Fallible<()> {
        self.kept = true;
        Ok(fs::write(self.dir.join(KEEP), "")?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("{} can't be removed: {error}", self.dir.display());
        }
    }
}

/// Directories of runs that are not kept and that nobody holds.
fn stale(parent: &Path) -> Fallible<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if !ours || path.join(KEEP).exists() {
            continue;
        }
        let free = match File::open(path.join(LOCK)) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
            // It is being made, or is no run.
            Err(_) => false,
        };
        if free {
            stale.push(path);
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn stale_runs_are_removed_and_kept_ones_and_running_ones_are_not() {
        let parent = TempDir::new().expect("a temporary directory can be made");
        let running = Site::make(parent.path(), 1).unwrap();
        let mut kept = Site::make(parent.path(), 2).unwrap();
        kept.keep().unwrap();
        let kept_dir = kept.path().to_owned();
        drop(kept);
        let left = parent.path().join("vltava-chaos-3-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let other = parent.path().join("other");
        fs::create_dir(&other).unwrap();
        let next = Site::make(parent.path(), 4).unwrap();
        assert!(running.path().exists() && kept_dir.exists() && other.exists() && !left.exists());
        let dir = next.path().to_owned();
        drop(next);
        assert!(!dir.exists());
    }
}
