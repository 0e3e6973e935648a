//! What clients ask of a broker, one request a file. Each handler turns a message into a domain request, hands it to the
//! owner of the partition, and waits: it changes nothing itself, since it may be dropped at any await.

pub mod admin;
pub mod consume;
pub mod describe;
pub mod fetch;
pub mod log;
pub mod metadata;
pub mod offsets;
pub mod principal;
pub mod produce;
pub mod producer_ids;
pub mod records;
