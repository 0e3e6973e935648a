//! The broker's side of the controller quorum: finding the active controller, the session with it, following the
//! metadata log, and asking it for changes.
//!
//! Nothing here decides anything about the cluster: it acts on committed metadata only.

pub mod damage;
pub mod isr;
pub mod link;
pub mod locate;
pub mod reconcile;
pub mod session;
