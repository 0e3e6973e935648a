//! The administrator: creates the topics, and later creates, deletes and widens others, under few names again and again.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use vltava_client::{Admin, Client, ClientError};
use vltava_history::event::{self, Action, ClientRef, Event, Outcome, Retention, Role};
use vltava_model::{ErrorCode, PartitionIndex, TopicId};
use vltava_proto::v1::{CreatePartitionsRequest, NewTopic};

use super::{Load, Topic, lock, now};
use crate::clock;
use crate::random::Random;

/// Topics that come and go, at most.
const PASSING_MAX: usize = 3;

struct Administrator<'a> {
    load: &'a Load,
    client: Client,
    who: ClientRef,
    random: Random,
}

/// Creates the lasting topics, then changes others until the load ends.
pub(super) async fn administer(load: &Load) {
    let Ok(client) = load.client() else { return load.complain("the administrator has no address".into()) };
    let who = load.0.recorder.client("administrator", Role::Administrator);
    let random = load.random("administrator");
    let mut administrator = Administrator { load, client, who, random };
    let habits = load.0.habits;
    for number in 0..habits.topics {
        let name = format!("lasting-{number}");
        while let Err(error) = administrator.create(&name, habits.partitions).await {
            tracing::debug!(%error, "the topic is not created yet");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    while !load.is_stopped() {
        load.rest(&mut administrator.random, habits.admin_rest_max).await;
        administrator.act().await;
    }
}

impl Administrator<'_> {
    async fn act(&mut self) {
        let passing: Vec<Topic> = {
            let topics = lock(&self.load.0.topics);
            topics
                .iter()
                .filter(|topic| topic.name.starts_with("passing") && !topic.doomed)
                .cloned()
                .collect()
        };
        // What fails may be tried again by a later act.
        let _ = match self.random.random_range(0..4) {
            0 | 1 if passing.len() < PASSING_MAX => {
                let mut names = (0..PASSING_MAX).map(|number| format!("passing-{number}"));
                // One is free: there are fewer topics than names.
                let free = names.find(|name| passing.iter().all(|topic| topic.name != *name));
                let name = free.unwrap_or_default();
                let partitions = self.random.random_range(1..=3);
                self.create(&name, partitions).await
            }
            2 if !passing.is_empty() => {
                let topic = passing[self.random.random_range(0..passing.len())].clone();
                self.delete(&topic).await
            }
            3 => self.widen().await,
            _ => Ok(()),
        };
    }

    fn told(&self, action: Action, invoked: event::At, outcome: Outcome<()>) {
        let admin = event::Admin { client: self.who, action, invoked, completed: now(), outcome };
        self.load.0.recorder.record(Event::Admin(admin));
    }

    fn admin(&self) -> Admin {
        Admin::new(self.client.clone())
    }

    async fn create(&mut self, name: &str, partitions: u32) -> Result<(), ClientError> {
        let invoked = now();
        let segment_bytes = [16 << 10, 64 << 10, 1 << 30][self.random.random_range(0..3)];
        let topic = NewTopic {
            name: name.to_owned(),
            partition_count: partitions,
            replication_factor: 3,
            configs: [
                ("min.insync.replicas".to_owned(), "2".to_owned()),
                ("segment.bytes".to_owned(), segment_bytes.to_string()),
            ]
            .into(),
            ..NewTopic::default()
        };
        let action = Action::CreateTopic { name: name.to_owned(), partitions };
        let (id, partitions) = match self.admin().create_topic(topic).await {
            Ok(created) => {
                self.told(action, invoked, Outcome::Ok(()));
                (created.topic_id, partitions)
            }
            Err(error) => {
                self.told(action, invoked, Outcome::Unknown(error.to_string()));
                if error.code() != ErrorCode::TopicAlreadyExists {
                    return Err(error);
                }
                // An attempt whose answer was lost may have created it.
                let found = self.client.refresh_topic(name).await?;
                (found.topic_id.clone(), found.partitions.len() as u32)
            }
        };
        let id = TopicId::from_slice(&id)
            .ok_or_else(|| ClientError::new(ErrorCode::UnknownServerError, "an id has 16 bytes"))?;
        let known = lock(&self.load.0.topics).iter().find(|topic| topic.id == id).cloned();
        match known {
            // Its deletion came to nothing.
            Some(topic) if topic.doomed => return self.delete(&topic).await,
            Some(_) => return Ok(()),
            None => {}
        }
        let mut topics = lock(&self.load.0.topics);
        let declare = |index| {
            let index = PartitionIndex::new(index);
            self.load.0.recorder.partition(id, name, index, Retention::Everything)
        };
        topics.push(Topic {
            name: name.to_owned(),
            id,
            partitions: (0..partitions).map(declare).collect(),
            acked: Arc::new(vec![clock::now(); partitions as usize].into()),
            doomed: false,
        });
        Ok(())
    }

    async fn delete(&mut self, topic: &Topic) -> Result<(), ClientError> {
        for known in lock(&self.load.0.topics).iter_mut().filter(|known| known.id == topic.id) {
            known.doomed = true;
        }
        let invoked = now();
        let action = Action::DeleteTopic { topic: topic.id };
        match self.admin().delete_topic_with_id(topic.id).await {
            Ok(()) => self.told(action, invoked, Outcome::Ok(())),
            Err(error) => self.told(action, invoked, Outcome::Unknown(error.to_string())),
        }
        Ok(())
    }

    async fn widen(&mut self) -> Result<(), ClientError> {
        let Some(topic) = self.load.pick(&mut self.random) else { return Ok(()) };
        let before = topic.partitions.len() as u32;
        if before >= 6 {
            return Ok(());
        }
        let invoked = now();
        let action = Action::Other(format!("widen {} to {}", topic.name, before + 1));
        let request = CreatePartitionsRequest {
            topic: topic.name.clone(),
            total_count: before + 1,
            ..CreatePartitionsRequest::default()
        };
        match self.admin().create_partitions(request).await {
            Ok(_) => self.told(action, invoked, Outcome::Ok(())),
            Err(error) => {
                self.told(action, invoked, Outcome::Unknown(error.to_string()));
                return Err(error);
            }
        }
        let index = PartitionIndex::new(before);
        let partition = self.load.0.recorder.partition(topic.id, &topic.name, index, Retention::Everything);
        for known in lock(&self.load.0.topics).iter_mut().filter(|known| known.id == topic.id) {
            known.partitions.push(partition);
            lock(&known.acked).push(clock::now());
        }
        Ok(())
    }
}
