//! Who asks, and the one point at which it is decided whether they may.

use tonic::{Request, Status};

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody has shown who they are.
    Anonymous,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Looks at metadata, configs and state.
    Describe,
    /// Changes the cluster.
    Alter,
    /// Speaks as a broker or a controller of this cluster.
    ClusterAction,
}

/// Names and checks the sender of a request. Today everybody may do everything: the listeners are meant for a trusted
/// network, as the documents say.
///
/// # Errors
/// CLUSTER_AUTHORIZATION_FAILED when the principal may not.
pub(crate) fn admit<T>(request: &Request<T>, operation: Operation) -> Result<Principal, Status> {
    let principal = principal_of(request);
    match (&principal, operation) {
        (Principal::Anonymous, Operation::Describe | Operation::Alter | Operation::ClusterAction) => {
            Ok(principal)
        }
    }
}

fn principal_of<T>(_request: &Request<T>) -> Principal {
    Principal::Anonymous
}
