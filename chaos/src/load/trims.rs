//! An administrator who deletes old records of one topic.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use vltava_client::Admin;
use vltava_history::event::{Action, Outcome, Role};
use vltava_model::Offset;

use super::{Common, Topic};

/// Deletes until the load ends.
pub async fn trim(mut common: Common, topic: Topic) {
    let Ok(client) = common.client() else { return };
    let admin = Admin::new(client);
    let who = common.scribe.recorder.client("trimmer", Role::Administrator);
    let mut rng = StdRng::seed_from_u64(common.options.seed ^ 0x7472_696d);
    let mut stop = common.stop.clone();
    let mut starts = vec![0; topic.partitions.len()];
    while common.sleep(Duration::from_millis(rng.random_range(5_000..15_000))).await {
        let index = rng.random_range(0..starts.len());
        starts[index] += rng.random_range(1..400);
        let before = Offset::new(starts[index]);
        let invoked = common.scribe.now();
        let action = Action::DeleteRecords { partition: topic.partitions[index], before };
        let deleting = admin.delete_records(&topic.name, index as u32, Some(before.get()));
        let outcome = tokio::select! {
            deleted = tokio::time::timeout(Duration::from_secs(10), deleting) => match deleted {
                Ok(Ok(_)) => Outcome::Ok(()),
                Ok(Err(error)) => Outcome::Unknown(error.to_string()),
                Err(_) => Outcome::Unknown("no answer".to_owned()),
            },
            _ = stop.wait_for(|stop| *stop) => Outcome::Unknown("the load ended".to_owned()),
        };
        common.administered(who, action, invoked, outcome);
    }
}
