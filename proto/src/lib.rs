//! The protocol: messages and gRPC stubs made from the files in `proto/`, and the one form in which errors travel.
//!
//! Holds no logic of brokers, controllers or clients.

pub mod codec;
pub mod plain;
pub mod status;

/// Version 1 of everything.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    pub use crate::plain::PlainRecords;

    tonic::include_proto!("vltava.v1");
}

/// The descriptors of all files, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
