//! The Rust client of Vltava: a producer, a consumer and an administrator over gRPC.
//!
//! ```no_run
//! use vltava_client::{Client, Consumer, ConsumerOptions, Producer, ProducerOptions, Record, StartAt};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7092")?;
//! let producer = Producer::new(client.clone(), ProducerOptions::default());
//! let written = producer.send(Record::new("greetings").value("hello")).await?.await?;
//! println!("partition {} offset {:?}", written.partition, written.offset);
//!
//! let mut consumer = Consumer::new(client, ConsumerOptions::default());
//! consumer.assign_topic("greetings", StartAt::Earliest).await?;
//! for record in consumer.poll(std::time::Duration::from_secs(1)).await? {
//!     println!("{:?}", record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`] | [`Client`]: who leads what, and a connection to each broker |
//! | [`producer`] | [`Producer`]: batches by partition, retries in order, idempotence, bounded memory |
//! | [`consumer`] | [`Consumer`]: assignment, positions, pausing, following leaders that move |
//! | [`admin`] | [`Admin`]: topics, configs, brokers, the controller quorum |
//! | [`error`] | [`ClientError`]: what failed, what to do, and whether anything was done |
//!
//! Knows the protocol and nothing of how a broker works.

pub mod admin;
mod backoff;
mod channel;
pub mod cluster;
pub mod consumer;
mod doubt;
pub mod error;
mod pin;
pub mod producer;

pub use admin::Admin;
pub use cluster::{Client, ClientOptions};
pub use consumer::{ConsumedRecord, Consumer, ConsumerOptions, OffsetReset, StartAt};
pub use error::{Certainty, ClientError};
pub use producer::{Delivery, Partitioner, Producer, ProducerOptions, Record, Written};
pub use vltava_model::batch::Compression;
