//! The bytes of an entry, the same on disk and on the wire.
//!
//! `kind: u8` then the payload: nothing for a blank entry (0), the command (1), or the membership as JSON (2). Position,
//! length and checksum are the log's or the frame's business. Bytes from outside never panic here.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, Membership};

use crate::meta_log::LogEntry;
use crate::types::{Command, RaftEntry, RaftLogId, VoterId, VoterNode};

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// The bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end before they should, or go on after it.
    #[error("wrong length")]
    Length,
    /// A kind of entry that this version does not know.
    #[error("unknown kind of entry {0}")]
    Kind(u8),
    /// The JSON part cannot be read.
    #[error("unreadable {what}: {why}")]
    Json {
        /// Which part.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
}

/// The stored form of an entry.
pub fn encode_entry(entry: &RaftEntry) -> LogEntry {
    let bytes = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(Command(command)) => {
            let mut bytes = BytesMut::with_capacity(1 + command.len());
            bytes.put_u8(COMMAND);
            bytes.put_slice(command);
            bytes.freeze()
        }
        EntryPayload::Membership(membership) => {
            let mut bytes = vec![MEMBERSHIP];
            serde_json::to_writer(&mut bytes, membership)
                .expect("a membership has text keys only and memory takes every write");
            bytes.into()
        }
    };
    LogEntry { position: entry.log_id.into(), bytes }
}

/// The entry behind its stored form; a command shares the bytes.
pub fn decode_entry(entry: &LogEntry) -> Result<RaftEntry, CodecError> {
    let kind = *entry.bytes.first().ok_or(CodecError::Length)?;
    let rest = entry.bytes.slice(1..);
    let payload = match kind {
        BLANK if rest.is_empty() => EntryPayload::Blank,
        BLANK => return Err(CodecError::Length),
        COMMAND => EntryPayload::Normal(Command(rest)),
        MEMBERSHIP => EntryPayload::Membership(
            serde_json::from_slice::<Membership<VoterId, VoterNode>>(&rest)
                .map_err(|e| CodecError::Json { what: "membership", why: e.to_string() })?,
        ),
        other => return Err(CodecError::Kind(other)),
    };
    Ok(RaftEntry { log_id: RaftLogId::from(entry.position), payload })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::types::Position;

    fn entry(payload: EntryPayload<crate::TypeConfig>) -> RaftEntry {
        RaftEntry { log_id: Position { term: 3, index: 8 }.into(), payload }
    }

    #[test]
    fn every_kind_reads_back() {
        let voters = [VoterId::new(1, 5), VoterId::new(2, 6)];
        let nodes: BTreeMap<_, _> =
            voters.iter().map(|v| (*v, VoterNode { address: format!("host{}:7093", v.node) })).collect();
        let membership = Membership::new(vec![BTreeSet::from(voters)], nodes);
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(Bytes::from_static(b"create"))),
            EntryPayload::Normal(Command(Bytes::new())),
            EntryPayload::Membership(membership),
        ] {
            let entry = entry(payload);
            assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn strange_bytes_are_errors() {
        let position = Position { term: 1, index: 1 };
        for bytes in [&b""[..], &[BLANK, 0], &[MEMBERSHIP], &[MEMBERSHIP, b'{'], &[3], &[255, 1]] {
            assert!(
                decode_entry(&LogEntry { position, bytes: Bytes::copy_from_slice(bytes) }).is_err(),
                "{bytes:?}"
            );
        }
    }
}
