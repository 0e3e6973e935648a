//! Deletes topics, records and configs and all.

use std::collections::BTreeSet;

use vltava_metadata::record;
use vltava_model::ErrorCode;
use vltava_proto::v1::{DeleteTopicsRequest, DeleteTopicsResponse, TopicResult};

use super::{Decision, Refusal, View};

/// Deletes topics by name; each succeeds or fails by itself.
///
/// # Errors
/// None of the whole request.
pub fn decide(view: &View, request: &DeleteTopicsRequest) -> Result<Decision<DeleteTopicsResponse>, Refusal> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(request.names.len());
    for name in &request.names {
        let topic = view.image.topic_named(name);
        let refusal = match topic {
            _ if !seen.insert(name) => {
                Some(Refusal::new(ErrorCode::InvalidRequest, format!("topic {name} is named twice")))
            }
            None => {
                Some(Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("topic {name} does not exist")))
            }
            Some(topic) => {
                records.push(record::topic_removed(topic.id));
                None
            }
        };
        topics.push(TopicResult { name: name.clone(), error: refusal.map(|refusal| refusal.detail()) });
    }
    let mut decision = Decision { records, response: DeleteTopicsResponse { topics, metadata_offset: 0 } };
    decision.response.metadata_offset = decision.offset_after(view).get();
    Ok(decision)
}
