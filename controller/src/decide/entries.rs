//! Cuts a decision's records into entries of the Raft log. Knows which records must not be torn apart, and nothing else.

use prost::Message;
use vltava_proto::v1::{MetadataRecord, metadata_record::Record};

/// The largest entry, as encoded. A group of records that belong together may exceed it: the largest one is bounded by the
/// limits on configs.
pub const MAX_ENTRY_BYTES: usize = 512 * 1024;

/// Cuts records into entries, in order. Each entry leaves a legal state behind that a later controller can carry on from.
pub fn entries(records: Vec<MetadataRecord>) -> Vec<Vec<MetadataRecord>> {
    entries_of(records, MAX_ENTRY_BYTES)
}

pub(super) fn entries_of(records: Vec<MetadataRecord>, max_bytes: usize) -> Vec<Vec<MetadataRecord>> {
    let mut entries: Vec<Vec<MetadataRecord>> = Vec::new();
    let mut bytes = 0;
    for group in groups(records) {
        let size: usize = group.iter().map(encoded_len).sum();
        match entries.last_mut() {
            Some(entry) if bytes + size <= max_bytes => {
                entry.extend(group);
                bytes += size;
            }
            _ => {
                entries.push(group);
                bytes = size;
            }
        }
    }
    entries
}

/// A record's size within an entry: tag, length and body.
fn encoded_len(record: &MetadataRecord) -> usize {
    let body = record.encoded_len();
    1 + prost::length_delimiter_len(body) + body
}

/// Records that take effect together: a topic with its configs, all configs of one request, the first records of a log.
fn groups(records: Vec<MetadataRecord>) -> Vec<Vec<MetadataRecord>> {
    let mut groups: Vec<Vec<MetadataRecord>> = Vec::new();
    for record in records {
        let before = groups.last().and_then(|group| group.last()).and_then(|last| last.record.as_ref());
        let together = matches!(
            (before, &record.record),
            (Some(Record::Topic(_) | Record::Config(_)), Some(Record::Config(_)))
                | (Some(Record::Cluster(_) | Record::Feature(_)), Some(Record::Feature(_)))
        );
        match groups.last_mut() {
            Some(group) if together => group.push(record),
            _ => groups.push(vec![record]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use vltava_metadata::{ConfigTarget, PartitionImage, record};
    use vltava_model::{NodeId, PartitionIndex, TopicId, TopicPartition};

    #[test]
    fn entries_stay_small_and_keep_groups_whole() {
        let topic = TopicId::new(1);
        let image = PartitionImage {
            replicas: vec![NodeId::new(1)],
            directories: vec![None],
            ..PartitionImage::default()
        };
        let partition = |i| record::partition(TopicPartition::new(topic, PartitionIndex::new(i)), &image);
        let value = "1".repeat(100);
        let config = |name: &str| record::config(&ConfigTarget::Topic("t".into()), name, Some(&value));
        let mut records: Vec<_> = (0..100).map(partition).collect();
        records.push(record::topic(topic, "t"));
        records.extend([config("a"), config("b"), config("c")]);

        let cut = entries_of(records.clone(), 200);
        assert!(cut.len() > 10);
        assert_eq!(cut.concat(), records, "nothing is lost or moved");
        assert_eq!(
            cut.last().unwrap()[..],
            records[100..],
            "the topic has its configs with it, however large"
        );
        for entry in &cut[..cut.len() - 1] {
            assert!(entry.iter().map(encoded_len).sum::<usize>() <= 200);
        }
        assert_eq!(entries(records).len(), 1);
        assert!(entries(Vec::new()).is_empty());
    }
}
