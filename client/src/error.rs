//! What can go wrong, shaped by what the caller does next.

use tonic::Status;
use vltava_model::{ErrorClass, ErrorCode};
use vltava_proto::status;
use vltava_proto::v1::ErrorDetail;

/// An error from a server or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ClientError {
    code: ErrorCode,
    message: String,
    detail: Option<Box<ErrorDetail>>,
}

impl ClientError {
    /// An error that this library found by itself.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None }
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
        Self {
            code: status::code_of(&detail),
            message: detail.message.clone(),
            detail: Some(Box::new(detail)),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        status::detail_of(&status).into()
    }
}
