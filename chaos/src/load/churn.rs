//! A topic that is created, used, deleted, and created again under the same name, over and over.

use std::sync::PoisonError;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::{JoinError, JoinSet};
use vltava_client::{Admin, ClientError};
use vltava_history::event::{Action, ClientRef, Outcome, Role};
use vltava_model::{ErrorCode, TopicId};

use super::{Common, Topic, consumers, producers};

const NAME: &str = "churn";
const PARTITIONS: u32 = 2;
/// How long one deletion or creation is tried before the next round.
const PATIENCE: Duration = Duration::from_secs(8);

/// How much longer a topic may be used than it is there.
const LATE_MAX: Duration = Duration::from_secs(4);

/// Goes on until the load ends; the last one stays if it was in use then.
pub async fn churn(mut common: Common) {
    let who = common.scribe.recorder.client("churner", Role::Administrator);
    let mut rng = StdRng::seed_from_u64(common.options.seed ^ 0x6368_7572);
    let mut users = JoinSet::new();
    let mut life = 0;
    while !common.stopped() {
        let created = tokio::time::timeout(PATIENCE, common.clone().create(who, NAME, PARTITIONS, &[])).await;
        let Ok(Ok(topic)) = created else {
            common.sleep(Duration::from_millis(500)).await;
            continue;
        };
        life += 1;
        *common.passing.lock().unwrap_or_else(PoisonError::into_inner) = vec![topic.clone()];
        let time = Duration::from_millis(rng.random_range(1_000..12_000));
        // Some go on when the topic is deleted, and when the next one of its name is there.
        users.spawn(use_it(common.clone(), topic.clone(), life, time + LATE_MAX.mul_f64(rng.random())));
        common.sleep(time).await;
        if common.stopped() {
            // It stays, to be read.
            break;
        }
        // Also when the load ends meanwhile: half a deletion leaves nothing that could be checked.
        while !delete(common.clone(), who, topic.id).await {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        common.passing.lock().unwrap_or_else(PoisonError::into_inner).clear();
        while let Some(ended) = users.try_join_next() {
            note(&common, ended);
        }
    }
    while let Some(ended) = users.join_next().await {
        note(&common, ended);
    }
}

fn note(common: &Common, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        common.scribe.violation(&format!("a client of this program failed: {error}"));
    }
}

/// Writes and reads for a while, and waits for all outcomes.
async fn use_it(common: Common, topic: Topic, life: u32, time: Duration) {
    let rate = common.options.rate / super::PRODUCERS;
    let mut stop = common.stop.clone();
    let over = async move { drop(tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await) };
    let name = format!("{NAME} producer {life}");
    let writing = producers::produce(&common, &topic, &name, rate, over);
    consumers::follow(&common, &topic, &format!("{NAME} tail {life}"), writing).await;
}

/// Whether the topic is gone.
async fn delete(common: Common, who: ClientRef, id: TopicId) -> bool {
    let Ok(client) = common.client() else { return false };
    let invoked = common.scribe.now();
    let admin = Admin::new(client.clone());
    let asked = tokio::time::timeout(PATIENCE, admin.delete_topic_with_id(id)).await;
    let refused = match asked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(ClientError::new(ErrorCode::RequestTimedOut, "no answer")),
    };
    let outcome = match &refused {
        None => Outcome::Ok(()),
        Some(error) => Outcome::Unknown(error.to_string()),
    };
    common.administered(who, Action::DeleteTopic { topic: id }, invoked, outcome);
    // Deleted by an attempt whose answer was lost.
    refused.is_none_or(|error| error.code() == ErrorCode::UnknownTopicId)
}
