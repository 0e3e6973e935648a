//! Errors between `ErrorCode`, the typed detail and the gRPC status.

use prost::Message;
use tonic::{Code, Status};
use vltava_model::{ErrorClass, ErrorCode};

use crate::v1::{ErrorAction, ErrorDetail, RpcAny, RpcStatus};

const DETAIL_TYPE: &str = "type.googleapis.com/vltava.v1.ErrorDetail";

/// An error's typed detail; `message` says what happened and what to do.
pub fn detail(code: ErrorCode, message: impl Into<String>) -> ErrorDetail {
    let action = match code.class() {
        ErrorClass::Retry => ErrorAction::Retry,
        ErrorClass::Refresh => ErrorAction::Refresh,
        ErrorClass::GiveUp => ErrorAction::GiveUp,
    };
    ErrorDetail {
        code: code.number().into(),
        name: code.name().into(),
        action: action.into(),
        message: message.into(),
        ..ErrorDetail::default()
    }
}

/// The gRPC status for an error.
pub fn status(code: ErrorCode, message: impl Into<String>) -> Status {
    from_detail(detail(code, message))
}

/// The gRPC status that carries a detail.
pub fn from_detail(detail: ErrorDetail) -> Status {
    let code = code_of(&detail);
    let grpc = grpc_code(code);
    let message = format!("{}: {}", detail.name, detail.message);
    let any = RpcAny { type_url: DETAIL_TYPE.into(), value: detail.encode_to_vec().into() };
    let details = RpcStatus { code: grpc as i32, message: message.clone(), details: vec![any] };
    Status::with_details(grpc, message, details.encode_to_vec().into())
}

/// The typed detail of a status. A status that carries none (from a proxy, a broken connection, another server) is
/// given the one that fits its gRPC code.
pub fn detail_of(status: &Status) -> ErrorDetail {
    let sent = RpcStatus::decode(status.details()).ok().and_then(|details| {
        let any = details.details.into_iter().find(|any| any.type_url == DETAIL_TYPE)?;
        ErrorDetail::decode(any.value).ok()
    });
    sent.unwrap_or_else(|| {
        let code = match status.code() {
            // What breaks on the way (a reset stream, a body that ends too soon) comes as Unknown or Internal, and our
            // servers always send a detail: whether the request took effect is not known.
            Code::Unavailable | Code::Cancelled | Code::Aborted | Code::Unknown | Code::Internal => {
                ErrorCode::NetworkException
            }
            Code::DeadlineExceeded => ErrorCode::RequestTimedOut,
            Code::ResourceExhausted => ErrorCode::ThrottlingQuotaExceeded,
            Code::OutOfRange => ErrorCode::MessageTooLarge,
            Code::Unimplemented => ErrorCode::UnsupportedVersion,
            Code::InvalidArgument => ErrorCode::InvalidRequest,
            _ => ErrorCode::UnknownServerError,
        };
        detail(code, status.message())
    })
}

/// The code of a detail; one that this version does not know becomes the unknown error, its action kept in the detail.
pub fn code_of(detail: &ErrorDetail) -> ErrorCode {
    i16::try_from(detail.code).ok().and_then(ErrorCode::from_number).unwrap_or(ErrorCode::UnknownServerError)
}

/// The gRPC code that generic clients and proxies understand.
fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode::*;
    match code {
        OffsetOutOfRange => Code::OutOfRange,
        CorruptMessage => Code::DataLoss,
        UnknownTopicOrPartition
        | UnknownTopicId
        | ResourceNotFound
        | VoterNotFound
        | BrokerIdNotRegistered => Code::NotFound,
        TopicAlreadyExists | DuplicateResource | DuplicateVoter => Code::AlreadyExists,
        ThrottlingQuotaExceeded => Code::ResourceExhausted,
        TopicAuthorizationFailed | ClusterAuthorizationFailed => Code::PermissionDenied,
        UnsupportedVersion => Code::Unimplemented,
        RequestTimedOut => Code::DeadlineExceeded,
        UnknownServerError => Code::Internal,
        _ => match code.class() {
            ErrorClass::Retry => Code::Unavailable,
            ErrorClass::Refresh => Code::FailedPrecondition,
            ErrorClass::GiveUp => Code::InvalidArgument,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_status() {
        for code in ErrorCode::ALL {
            let mut sent = detail(*code, "why");
            sent.leader_id = Some(3);
            let read = detail_of(&from_detail(sent.clone()));
            assert_eq!(read, sent);
            assert_eq!(code_of(&read), *code);
        }
    }

    #[test]
    fn a_status_without_detail_is_classified() {
        let read = detail_of(&Status::unavailable("connection refused"));
        assert_eq!(code_of(&read), ErrorCode::NetworkException);
        // As a killed server's connection ends.
        let read = detail_of(&Status::unknown("h2 protocol error: error reading a body from connection"));
        assert_eq!(code_of(&read), ErrorCode::NetworkException);
    }
}
