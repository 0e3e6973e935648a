//! On what a Raft log lies, and what a directory already holds: one log must never begin beside another.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use vltava_storage::Storage;

use crate::error::OpenError;
use crate::{sled_log, wal_log};

/// On what a Raft log lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogEngine {
    /// A write-ahead log of our own.
    #[default]
    Wal,
    /// sled, with a witness beside it.
    Sled,
}

impl LogEngine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Wal, Self::Sled];

    /// As `metadata.log.engine` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Sled => "sled",
        }
    }

    /// The names in the Raft directory of which it leaves one or more, from its first moment on.
    const fn traces(self) -> [&'static str; 2] {
        match self {
            Self::Wal => [wal_log::DIRECTORY, wal_log::ORIGIN],
            Self::Sled => [sled_log::DIRECTORY, sled_log::WITNESS],
        }
    }
}

impl fmt::Display for LogEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no engine of a Raft log: write `wal` or `sled`")]
pub struct LogEngineError(String);

impl FromStr for LogEngine {
    type Err = LogEngineError;

    fn from_str(text: &str) -> Result<Self, LogEngineError> {
        let found = Self::ALL.into_iter().find(|engine| engine.as_str() == text);
        found.ok_or_else(|| LogEngineError(text.to_owned()))
    }
}

/// The engine of the log that `directory` holds, if it holds one.
pub(crate) fn present(storage: &dyn Storage, directory: &Path) -> Result<Option<LogEngine>, OpenError> {
    let mut found = None;
    for engine in LogEngine::ALL {
        for trace in engine.traces() {
            let path = directory.join(trace);
            if !storage.exists(&path).map_err(OpenError::io("look for", &path))? {
                continue;
            }
            if found.is_some_and(|found| found != engine) {
                let what = "it holds two Raft logs, one on sled and one in files of its own";
                return Err(OpenError::damaged(directory, what));
            }
            found = Some(engine);
        }
    }
    Ok(found)
}

/// The engine to open `directory` with.
pub(crate) fn choose(
    storage: &dyn Storage,
    directory: &Path,
    wanted: Option<LogEngine>,
) -> Result<LogEngine, OpenError> {
    match (present(storage, directory)?, wanted) {
        (Some(holds), Some(wanted)) if holds != wanted => {
            Err(OpenError::OtherEngine { directory: directory.to_owned(), holds, wanted })
        }
        (Some(holds), _) => Ok(holds),
        (None, wanted) => Ok(wanted.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use vltava_storage::MemoryStorage;

    use super::*;

    fn with(names: &[&str]) -> MemoryStorage {
        let storage = MemoryStorage::new();
        storage.create_dir_all(Path::new("/raft")).unwrap();
        for name in names {
            let file = storage.create(&Path::new("/raft").join(name)).unwrap();
            file.write_at(0, b"x").unwrap();
        }
        storage
    }

    fn chosen(storage: &MemoryStorage, wanted: Option<LogEngine>) -> Result<LogEngine, OpenError> {
        choose(storage, Path::new("/raft"), wanted)
    }

    #[test]
    fn an_existing_log_is_never_passed_over() {
        for engine in LogEngine::ALL {
            for trace in engine.traces() {
                let storage = with(&[trace, "lock", "snapshots"]);
                for wanted in [None, Some(engine)] {
                    assert_eq!(chosen(&storage, wanted).unwrap(), engine, "{trace}");
                }
                let other = LogEngine::ALL.into_iter().find(|other| *other != engine);
                let error = chosen(&storage, other).unwrap_err().to_string();
                assert!(error.contains(&format!("metadata.log.engine = \"{engine}\"")), "{error}");
            }
        }
        let both = with(&["wal", "witness"]);
        for wanted in [None, Some(LogEngine::Wal), Some(LogEngine::Sled)] {
            assert!(matches!(chosen(&both, wanted), Err(OpenError::Damaged { .. })));
        }
    }

    #[test]
    fn a_new_directory_gets_what_is_wanted() {
        let storage = with(&["identity", "lock"]);
        assert_eq!(chosen(&storage, None).unwrap(), LogEngine::default());
        for engine in LogEngine::ALL {
            assert_eq!(chosen(&storage, Some(engine)).unwrap(), engine);
            assert_eq!(engine.as_str().parse(), Ok(engine));
        }
        assert!("rocks".parse::<LogEngine>().is_err());
    }
}
