//! Reads a topic from its first record on and prints what it finds, until nothing has come for five seconds.
//!
//! Run: `cargo run -p vltava-client --example consumer -- 127.0.0.1:7092 greetings`

use std::error::Error;
use std::time::Duration;

use vltava_client::{Client, Consumer, ConsumerOptions, StartAt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(servers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: consumer HOST:PORT[,HOST:PORT]... TOPIC".into());
    };

    let mut consumer = Consumer::new(Client::connect(&servers)?, ConsumerOptions::default());
    // Positions are the application's to keep: begin at `StartAt::Offset` with what it has saved, by `assign_in` with the
    // topic's id beside it, since a topic that was created anew under the name has other records at its offsets.
    let partitions = consumer.assign_topic(&topic, StartAt::Earliest).await?;
    println!("{topic} has {partitions} partitions");

    loop {
        let records = consumer.poll(Duration::from_secs(5)).await?;
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let key = record.key.as_deref().map_or("null".to_owned(), text);
            let value = record.value.as_deref().map_or("null".to_owned(), text);
            println!("partition {} offset {}: {key} = {value}", record.partition, record.offset);
        }
    }
}
