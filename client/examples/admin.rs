//! Creates a topic unless it is there, then shows the brokers and who leads each of its partitions.
//!
//! Run: `cargo run -p vltava-client --example admin -- 127.0.0.1:7092 greetings`

use std::error::Error;

use vltava_client::{Admin, Client};
use vltava_model::ErrorCode;
use vltava_proto::v1::NewTopic;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(servers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: admin HOST:PORT[,HOST:PORT]... TOPIC".into());
    };

    let admin = Admin::new(Client::connect(&servers)?);

    // How many replicas it gets, and every config that is not named here, is the cluster's default.
    let wanted = NewTopic { name: topic.clone(), partition_count: 3, ..NewTopic::default() };
    match admin.create_topic(wanted).await {
        Ok(_) => println!("created {topic}"),
        Err(error) if error.code() == ErrorCode::TopicAlreadyExists => println!("{topic} is there already"),
        Err(error) => return Err(error.into()),
    }

    for broker in admin.describe_cluster().await?.brokers {
        let addresses: Vec<_> =
            broker.endpoints.iter().map(|it| format!("{}={}:{}", it.listener, it.host, it.port)).collect();
        println!("broker {}: {}", broker.node_id, addresses.join(" "));
    }
    for described in admin.describe_topics(vec![topic]).await? {
        for partition in described.partitions.into_iter().filter_map(|it| it.metadata) {
            let leader = partition.leader.map_or("nobody".to_owned(), |id| id.to_string());
            println!("partition {}: led by {leader}, in sync: {:?}", partition.partition, partition.isr);
        }
    }
    Ok(())
}
