//! Which of the topics that bore a name is meant.
//!
//! A name may come to mean another topic: one that was deleted and created anew. Records that were taken for the old one
//! must not go into the new one, and offsets of the old one mean nothing in the new one. So whoever goes on with a topic
//! holds its id, and requests name it. Knows neither connections nor leaders.

use std::sync::Arc;

use vltava_model::{ErrorCode, TopicId};
use vltava_proto::status;
use vltava_proto::v1::{MetadataResponse, TopicMetadata};

use crate::error::ClientError;

/// A topic by its name and the id that it had.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    name: Arc<str>,
    id: TopicId,
    /// The newest metadata in which it was there, as an offset of the metadata log.
    seen_at: u64,
}

impl Pin {
    pub(crate) fn new(name: &str, id: TopicId, seen_at: u64) -> Self {
        Self { name: name.into(), id, seen_at }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> TopicId {
        self.id
    }

    /// The id as requests carry it.
    pub(crate) fn wire_id(&self) -> bytes::Bytes {
        self.id.to_bytes().to_vec().into()
    }

    /// Whether metadata are this topic's.
    pub(crate) fn is(&self, topic: &TopicMetadata) -> bool {
        topic.error.is_none() && topic.topic_id[..] == self.id.to_bytes()[..]
    }

    /// Looks into an answer that was asked for this topic.
    ///
    /// # Errors
    /// When the topic is gone for certain: metadata that are not older than those in which it was do not have it. Ids are
    /// never used again, so it will not come back.
    pub(crate) fn judge(&mut self, answer: &MetadataResponse) -> Result<(), ClientError> {
        let Some(topic) = answer.topics.iter().find(|topic| *topic.name == *self.name) else { return Ok(()) };
        if self.is(topic) {
            self.seen_at = self.seen_at.max(answer.metadata_offset);
            return Ok(());
        }
        if answer.metadata_offset < self.seen_at {
            return Ok(());
        }
        match &topic.error {
            None => Err(self.recreated()),
            Some(error) if status::code_of(error) == ErrorCode::UnknownTopicOrPartition => {
                let message = format!("topic '{}' was deleted", self.name);
                Err(ClientError::new(ErrorCode::UnknownTopicOrPartition, message))
            }
            Some(_) => Ok(()),
        }
    }

    /// What is said to a caller who means another topic than the one that has the name.
    pub(crate) fn is_not(&self, meant: TopicId) -> ClientError {
        let message = format!("topic '{}' has id {} as far as is known, not {meant}", self.name, self.id);
        ClientError::new(ErrorCode::UnknownTopicId, message)
    }

    /// What is said when the name means another topic.
    fn recreated(&self) -> ClientError {
        let message = format!(
            "topic '{}' was deleted and created anew: what has this name now is another topic than the one with id {}",
            self.name, self.id
        );
        ClientError::new(ErrorCode::UnknownTopicId, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(metadata_offset: u64, topic: TopicMetadata) -> MetadataResponse {
        MetadataResponse { metadata_offset, topics: vec![topic], ..MetadataResponse::default() }
    }

    fn named(id: u8) -> TopicMetadata {
        TopicMetadata { name: "t".into(), topic_id: vec![id; 16].into(), ..TopicMetadata::default() }
    }

    fn refused(code: ErrorCode) -> TopicMetadata {
        let error = Some(status::detail(code, "none"));
        TopicMetadata { name: "t".into(), error, ..TopicMetadata::default() }
    }

    #[test]
    fn only_metadata_that_are_not_older_tell_that_a_topic_is_gone() {
        let gone = || refused(ErrorCode::UnknownTopicOrPartition);
        let mut pin = Pin::new("t", TopicId::from_slice(&[1; 16]).unwrap(), 7);
        let mut code = |answer| pin.judge(&answer).err().map(|error| error.code());
        assert_eq!(code(answer(6, gone())), None);
        assert_eq!(code(answer(6, named(2))), None);
        assert_eq!(code(answer(7, refused(ErrorCode::LeaderNotAvailable))), None);
        assert_eq!(code(answer(7, TopicMetadata { name: "another".into(), ..gone() })), None);
        assert_eq!(code(answer(7, gone())), Some(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(code(answer(7, named(2))), Some(ErrorCode::UnknownTopicId));
        // Seen again by newer metadata, it can't have gone before.
        assert_eq!(code(answer(9, named(1))), None);
        assert_eq!(code(answer(8, gone())), None);
        assert_eq!(code(answer(8, named(2))), None);
    }
}
