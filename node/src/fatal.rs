//! The named ways to die.
//!
//! Some failures leave a process that must not go on: what it would say next could be wrong. It then ends at once,
//! without handing anything over, and its log and exit code say why. Nothing that can be answered to a client, tried
//! again or contained to one log directory belongs here.

use std::fmt;
use std::sync::Arc;

/// Why a process ends itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fatal {
    /// A committed metadata record could not be applied: the node would act on another state than the others.
    MetadataReplay,
    /// The metadata log could not be written, synced or read.
    MetadataStorage,
    /// Raft stopped by itself.
    Raft,
    /// The last usable log directory failed.
    LogDirs,
    /// The data directory belongs to another cluster or node.
    ForeignData,
    /// The cluster has another live process with this `node.id`.
    DuplicateNode,
    /// A thread or task that must not end has ended.
    LostTask,
    /// An invariant of our own does not hold.
    Bug,
    /// The controller cannot go on, for a reason that its log names.
    Controller,
    /// The broker cannot go on, for a reason that its log names.
    Broker,
}

impl Fatal {
    /// All of them, for documents and tests.
    pub const ALL: [Self; 10] = [
        Self::MetadataReplay,
        Self::MetadataStorage,
        Self::Raft,
        Self::LogDirs,
        Self::ForeignData,
        Self::DuplicateNode,
        Self::LostTask,
        Self::Bug,
        Self::Controller,
        Self::Broker,
    ];

    /// The process's exit code. Below 64 are those of commands; 128 and above belong to signals.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::MetadataReplay => 70,
            Self::MetadataStorage => 71,
            Self::Raft => 72,
            Self::LogDirs => 73,
            Self::ForeignData => 74,
            Self::DuplicateNode => 75,
            Self::LostTask => 76,
            Self::Bug => 77,
            Self::Controller => 78,
            Self::Broker => 79,
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::MetadataReplay => "keep the data as it is and report this with the log",
            Self::MetadataStorage => "check the disk of `metadata.log.dir`",
            Self::Raft | Self::Controller | Self::Broker => {
                "put right what it names, then start the node again"
            }
            Self::LogDirs => "check the disks of `log.dirs`",
            Self::ForeignData => "correct `log.dirs`, `metadata.log.dir`, `node.id` or `cluster.id`",
            Self::DuplicateNode => "give each node its own `node.id`",
            Self::LostTask | Self::Bug => "start the node again and report this with the log",
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MetadataReplay => "a metadata record could not be applied",
            Self::MetadataStorage => "the metadata log failed",
            Self::Raft => "the controller quorum's machine stopped",
            Self::LogDirs => "no log directory is usable any more",
            Self::ForeignData => "the data belongs to another cluster or node",
            Self::DuplicateNode => "another process runs with this node's number",
            Self::LostTask => "a part of the process ended unexpectedly",
            Self::Bug => "an invariant is broken",
            Self::Controller => "the controller cannot go on",
            Self::Broker => "the broker cannot go on",
        })
    }
}

/// What is done about a fatal failure: in a process, the end of it; in a test, whatever the test wants to see.
#[derive(Clone)]
pub struct FatalHandler(Arc<Hook>);

type Hook = dyn Fn(Fatal, &str) + Send + Sync;

impl FatalHandler {
    /// Ends the process.
    pub fn process() -> Self {
        Self::hook(|fatal, _| std::process::exit(fatal.exit_code().into()))
    }

    /// Calls `hook` instead. It may return; the caller of [`Self::die`] then goes on, and must stop by itself.
    pub fn hook(hook: impl Fn(Fatal, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    /// Says why in the log, then ends the process. `detail` says what exactly happened.
    pub fn die(&self, fatal: Fatal, detail: impl fmt::Display) {
        let detail = detail.to_string();
        tracing::error!(reason = ?fatal, exit_code = fatal.exit_code(), "stopping at once: {fatal}: {detail}; {}", fatal.advice());
        (self.0)(fatal, &detail);
    }
}

impl fmt::Debug for FatalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHandler")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn exit_codes_are_distinct_and_no_signals() {
        let codes: Vec<u8> = Fatal::ALL.iter().map(|fatal| fatal.exit_code()).collect();
        for (i, code) in codes.iter().enumerate() {
            assert!(!codes[..i].contains(code) && (64..128).contains(code));
        }
    }

    #[test]
    fn a_hook_sees_the_reason() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let handler = FatalHandler::hook(move |fatal, detail| {
            sink.lock().unwrap().push((fatal, detail.to_owned()));
        });
        handler.clone().die(Fatal::LogDirs, format_args!("{} failed", "/data"));
        assert_eq!(*seen.lock().unwrap(), [(Fatal::LogDirs, "/data failed".to_owned())]);
    }
}
