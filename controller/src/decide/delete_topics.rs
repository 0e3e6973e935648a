//! Deletes topics, records and configs and all.

use std::collections::BTreeSet;

use vltava_metadata::record;
use vltava_model::{ErrorCode, TopicId};
use vltava_proto::v1::{DeleteTopicsRequest, DeleteTopicsResponse, TopicResult};

use super::{Decision, Refusal, View};

fn named(view: &View, name: &str) -> Result<TopicId, Refusal> {
    let missing = || Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("topic {name} does not exist"));
    Ok(view.image.topic_named(name).ok_or_else(missing)?.id)
}

/// The topic's name, empty when it is not there, and its id.
fn with_id(view: &View, id: &[u8]) -> (String, Result<TopicId, Refusal>) {
    let Some(id) = TopicId::from_slice(id) else {
        return (String::new(), Err(Refusal::new(ErrorCode::InvalidRequest, "a topic id has 16 bytes")));
    };
    match view.image.topic(id) {
        Some(topic) => (topic.name.to_string(), Ok(id)),
        None => {
            let missing = Refusal::new(ErrorCode::UnknownTopicId, format!("no topic has id {id}"));
            (String::new(), Err(missing))
        }
    }
}

/// Deletes topics by name or id; each succeeds or fails by itself.
///
/// # Errors
/// None of the whole request.
pub fn decide(view: &View, request: &DeleteTopicsRequest) -> Result<Decision<DeleteTopicsResponse>, Refusal> {
    let mut taken = BTreeSet::new();
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.names.len() + request.topic_ids.len());
    let by_name = request.names.iter().map(|name| (name.clone(), named(view, name)));
    let by_id = request.topic_ids.iter().map(|id| with_id(view, id));
    for (name, found) in by_name.chain(by_id) {
        let taken = found.and_then(|id| {
            let twice = || Refusal::new(ErrorCode::InvalidRequest, format!("topic {name} is named twice"));
            if taken.insert(id) { Ok(id) } else { Err(twice()) }
        });
        let error = taken.map(|id| records.push(record::topic_removed(id))).err();
        topics.push(TopicResult { name, error: error.map(|refusal| refusal.detail()) });
    }
    let mut decision = Decision { records, response: DeleteTopicsResponse { topics, metadata_offset: 0 } };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}
