//! How a command ends: the exit codes that scripts can rely on, and the one form of an error on standard error.

use std::fmt;
use std::process::ExitCode;

use vltava_model::ErrorCode;

/// Why a command did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It failed.
    Failed,
    /// A flag or a config file is wrong.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// What was to be made exists already.
    Exists,
    /// No server could be reached, or none answered in time.
    Unavailable,
}

impl Failure {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Exists => 4,
            Self::Unavailable => 5,
        }
    }
}

/// The exit codes, as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed; the message says why
  2   a flag or a config file is wrong
  3   a topic, partition, broker or voter that was named does not exist
  4   what was to be made exists already
  5   no server could be reached, or none answered in time
  64+ a server ended itself: 70 metadata replay, 71 metadata storage, 72 raft, 73 log directories,
      74 data of another cluster or node, 75 node.id in use, 76 lost task, 77 bug,
      78 controller, 79 broker";

/// An error for people, with the exit code for scripts.
#[derive(Debug)]
pub struct CliError {
    failure: Failure,
    message: String,
}

/// What commands return.
pub type CliResult<T = ()> = Result<T, CliError>;

impl CliError {
    /// An error of a kind.
    pub fn new(failure: Failure, message: impl fmt::Display) -> Self {
        Self { failure, message: message.to_string() }
    }

    /// A plain failure.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Failure::Failed, message)
    }

    /// A wrong flag.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Failure::Usage, message)
    }

    /// An error that the cluster answered.
    pub fn answered(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self::new(failure_of(code), message)
    }

    /// Puts what was being done before the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What kind of failure it is.
    pub const fn failure(&self) -> Failure {
        self.failure
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.failure.code())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The exit code that says the most about an error of the cluster.
pub fn failure_of(code: ErrorCode) -> Failure {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::ResourceNotFound
        | ErrorCode::BrokerIdNotRegistered
        | ErrorCode::VoterNotFound => Failure::NotFound,
        ErrorCode::TopicAlreadyExists | ErrorCode::DuplicateResource | ErrorCode::DuplicateVoter => {
            Failure::Exists
        }
        ErrorCode::NetworkException | ErrorCode::RequestTimedOut => Failure::Unavailable,
        _ => Failure::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        for failure in
            [Failure::Failed, Failure::Usage, Failure::NotFound, Failure::Exists, Failure::Unavailable]
        {
            assert!(EXIT_CODES.contains(&format!("\n  {} ", failure.code())), "{failure:?}");
        }
        for fatal in vltava_node::fatal::Fatal::ALL {
            assert!(EXIT_CODES.contains(&fatal.exit_code().to_string()), "{fatal:?}");
        }
    }

    #[test]
    fn errors_of_the_cluster_keep_their_meaning() {
        assert_eq!(failure_of(ErrorCode::UnknownTopicOrPartition), Failure::NotFound);
        assert_eq!(failure_of(ErrorCode::TopicAlreadyExists), Failure::Exists);
        assert_eq!(failure_of(ErrorCode::RequestTimedOut), Failure::Unavailable);
        let error = CliError::answered(ErrorCode::InvalidPartitions, "0 partitions").context("creating `t`");
        assert_eq!(
            (error.failure(), error.to_string().as_str()),
            (Failure::Failed, "creating `t`: 0 partitions")
        );
    }
}
