//! Writes ten records and says where each one went. The topic must exist:
//! `cargo run -p vltava-client --example admin -- 127.0.0.1:7092 greetings` makes it.
//!
//! Run: `cargo run -p vltava-client --example producer -- 127.0.0.1:7092 greetings`

use std::error::Error;

use vltava_client::{Client, Producer, ProducerOptions, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(servers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: producer HOST:PORT[,HOST:PORT]... TOPIC".into());
    };

    // The defaults are the safe ones: every in-sync replica has it on stable storage, and retries write nothing twice.
    let producer = Producer::new(Client::connect(&servers)?, ProducerOptions::default());

    // `send` returns as soon as there is room, so that records travel in batches; the outcome comes later.
    let mut deliveries = Vec::new();
    for number in 0..10 {
        // Records with the same key go to the same partition, and stay in order there.
        let key = format!("key-{}", number % 3);
        let record =
            Record::new(&topic).key(key).value(format!("hello {number}")).header("example", "producer");
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        let written = delivery.await?;
        // With acks from all in-sync replicas the offset is almost always known.
        let offset = written.offset.map_or("not known".to_owned(), |offset| offset.to_string());
        println!("partition {} offset {offset}", written.partition);
    }
    Ok(())
}
