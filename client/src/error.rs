//! What can go wrong, shaped by what the caller does next.

use tonic::Status;
use vltava_model::{ErrorClass, ErrorCode};
use vltava_proto::status;
use vltava_proto::v1::ErrorDetail;

/// Whether what was asked for took effect, when no success was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It did not, and never will.
    NotDone,
    /// It may have, or may yet: a request was on its way and its answer is not known, or leaves it open.
    Unknown,
}

impl Certainty {
    /// What one server's answer with this code tells of one attempt. Codes that a server also gives when it has begun the work
    /// (it lost its leadership or its disk meanwhile, time was over) leave it open.
    pub fn of(code: ErrorCode) -> Self {
        use ErrorCode::*;
        match code {
            OffsetOutOfRange
            | CorruptMessage
            | UnknownTopicOrPartition
            | LeaderNotAvailable
            | MessageTooLarge
            | InvalidTopicException
            | NotEnoughReplicas
            | InvalidRequiredAcks
            | TopicAuthorizationFailed
            | ClusterAuthorizationFailed
            | InvalidTimestamp
            | UnsupportedVersion
            | TopicAlreadyExists
            | InvalidPartitions
            | InvalidReplicationFactor
            | InvalidReplicaAssignment
            | InvalidConfig
            | InvalidRequest
            | UnsupportedForMessageFormat
            | PolicyViolation
            | OutOfOrderSequenceNumber
            | InvalidProducerEpoch
            | UnknownProducerId
            | UnsupportedCompressionType
            | InvalidRecord
            | ThrottlingQuotaExceeded
            | ProducerFenced
            | UnknownTopicId
            | InconsistentTopicId => Self::NotDone,
            _ => Self::Unknown,
        }
    }
}

/// An error from a server or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ClientError {
    code: ErrorCode,
    message: String,
    certainty: Certainty,
    detail: Option<Box<ErrorDetail>>,
}

impl ClientError {
    /// An error that this library found by itself. Whether anything was done is as with a server's answer of that code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), certainty: Certainty::of(code), detail: None }
    }

    /// The same error, where more is known of what took effect than the code says.
    #[must_use]
    pub fn with_certainty(mut self, certainty: Certainty) -> Self {
        self.certainty = certainty;
        self
    }

    /// Whether what was asked for took effect: for a record, whether it may have been written.
    pub fn certainty(&self) -> Certainty {
        self.certainty
    }

    /// Kafka's name for it.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// In words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn class(&self) -> ErrorClass {
        self.code.class()
    }

    /// Whether sending the same again may help.
    pub fn is_retriable(&self) -> bool {
        self.class() != ErrorClass::GiveUp
    }

    /// What the server said, if it was a server that said it.
    pub fn detail(&self) -> Option<&ErrorDetail> {
        self.detail.as_deref()
    }
}

impl From<ErrorDetail> for ClientError {
    fn from(detail: ErrorDetail) -> Self {
        let code = status::code_of(&detail);
        let (message, certainty) = (detail.message.clone(), Certainty::of(code));
        Self { code, message, certainty, detail: Some(Box::new(detail)) }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let error = Self::from(status::detail_of(&status));
        // A status without a detail is not one of our servers' answers: it was made on the way, also on the way back.
        if status.details().is_empty() { error.with_certainty(Certainty::Unknown) } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_servers_refusal_makes_it_certain_that_nothing_was_done() {
        let certainty = |status: Status| ClientError::from(status).certainty();
        assert_eq!(certainty(status::status(ErrorCode::MessageTooLarge, "no")), Certainty::NotDone);
        assert_eq!(certainty(status::status(ErrorCode::NotEnoughReplicas, "no")), Certainty::NotDone);
        for code in [
            ErrorCode::RequestTimedOut,
            ErrorCode::NetworkException,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::KafkaStorageError,
            ErrorCode::UnknownServerError,
            ErrorCode::DuplicateSequenceNumber,
        ] {
            assert_eq!(certainty(status::status(code, "begun")), Certainty::Unknown, "{code}");
        }
        // As when the answer, not the request, is too large for this client.
        assert_eq!(certainty(Status::out_of_range("decoded message length too large")), Certainty::Unknown);
    }
}
