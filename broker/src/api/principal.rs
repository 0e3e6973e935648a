//! Who asks, and the one point at which it is decided whether they may.

use tonic::{Request, Status};
use vltava_model::ErrorCode;
use vltava_proto::status;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody has shown who they are.
    Anonymous,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads records or their offsets.
    Read,
    /// Appends records.
    Write,
    /// Looks at metadata, configs and state.
    Describe,
    /// Changes the cluster.
    Alter,
    /// Speaks as a broker of this cluster.
    ClusterAction,
}

/// Names the sender of a request.
pub fn principal_of<T>(_request: &Request<T>) -> Principal {
    Principal::Anonymous
}

/// Decides. Today everybody may do everything: the listeners are meant for a trusted network, as the documents say.
///
/// # Errors
/// When the principal may not.
pub fn authorise(principal: &Principal, _operation: Operation) -> Result<(), Status> {
    match principal {
        Principal::Anonymous => Ok(()),
    }
}

/// Names and checks the sender in one step.
///
/// # Errors
/// When the principal may not.
pub fn admit<T>(request: &Request<T>, operation: Operation) -> Result<Principal, Status> {
    let principal = principal_of(request);
    authorise(&principal, operation).map_err(|denied| {
        tracing::warn!(?principal, ?operation, "refused");
        if denied.details().is_empty() {
            status::status(ErrorCode::ClusterAuthorizationFailed, denied.message())
        } else {
            denied
        }
    })?;
    Ok(principal)
}
