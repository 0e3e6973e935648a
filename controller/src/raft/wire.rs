//! The bodies of Raft calls.
//!
//! A body is `head length u32, little-endian | head, JSON | raw bytes`. Heads are small; entries and chunks of snapshots
//! follow raw, as the log stores them. Bytes from a peer never panic here.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::error::SnapshotMismatch;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vltava_raft_store::{
    LogEntry, Position, RaftSnapshotMeta, RaftVote, TypeConfig, VoteRecord, VoterId, decode_entry,
    encode_entry,
};

/// The largest head, in bytes: far above what the most entries of one call need.
const MAX_HEAD_BYTES: usize = 4 << 20;

/// The bytes are no Raft call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed Raft message: {0}")]
pub(crate) struct WireError(String);

fn error(what: impl ToString) -> WireError {
    WireError(what.to_string())
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: VoteRecord,
    previous: Option<Position>,
    committed: Option<Position>,
    /// Term, index and length of each entry.
    entries: Vec<(u64, u64, u32)>,
}

#[derive(Serialize, Deserialize)]
struct VoteHead {
    vote: VoteRecord,
    last: Option<Position>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotHead {
    vote: VoteRecord,
    meta: RaftSnapshotMeta,
    offset: u64,
    done: bool,
}

/// The answer to AppendEntries.
#[derive(Serialize, Deserialize)]
enum AppendReply {
    Success,
    Partial(Option<Position>),
    Conflict,
    HigherVote(VoteRecord),
}

#[derive(Serialize, Deserialize)]
struct VoteReply {
    vote: VoteRecord,
    granted: bool,
    last: Option<Position>,
}

/// The answer to a chunk of a snapshot.
#[derive(Serialize, Deserialize)]
enum SnapshotReply {
    Received(VoteRecord),
    /// The receiver is elsewhere in this snapshot: begin anew.
    Mismatch(SnapshotMismatch),
}

/// What the receiver of a chunk said.
pub(crate) enum ChunkAnswer {
    /// It has it; this is its vote.
    Received(RaftVote),
    /// It wants the snapshot from its beginning.
    Mismatch(SnapshotMismatch),
}

fn frame(head: &impl Serialize, raw: &[&[u8]]) -> Bytes {
    let head = serde_json::to_vec(head).expect("a head has text keys only and memory takes every write");
    let mut body = BytesMut::with_capacity(4 + head.len() + raw.iter().map(|part| part.len()).sum::<usize>());
    body.put_u32_le(u32::try_from(head.len()).expect("a head is small"));
    body.put_slice(&head);
    for part in raw {
        body.put_slice(part);
    }
    body.freeze()
}

fn unframe<H: DeserializeOwned>(body: Bytes) -> Result<(H, Bytes), WireError> {
    let length = body.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize);
    let length = length.filter(|length| *length <= MAX_HEAD_BYTES).ok_or_else(|| error("no head"))?;
    let end = 4 + length;
    let head = body.get(4..end).ok_or_else(|| error("the head is cut off"))?;
    let head = serde_json::from_slice(head).map_err(error)?;
    Ok((head, body.slice(end..)))
}

fn unframe_plain<H: DeserializeOwned>(body: Bytes) -> Result<H, WireError> {
    let (head, rest) = unframe(body)?;
    if rest.is_empty() { Ok(head) } else { Err(error("bytes after the message")) }
}

/// Encodes AppendEntries.
pub(crate) fn encode_append(rpc: &AppendEntriesRequest<TypeConfig>) -> Bytes {
    let encoded: Vec<LogEntry> = rpc.entries.iter().map(encode_entry).collect();
    let entries = encoded.iter().map(|entry| {
        let length = u32::try_from(entry.bytes.len()).expect("an entry is far below 4 GiB");
        (entry.position.term, entry.position.index, length)
    });
    let head = AppendHead {
        vote: rpc.vote.into(),
        previous: rpc.prev_log_id.map(Into::into),
        committed: rpc.leader_commit.map(Into::into),
        entries: entries.collect(),
    };
    let raw: Vec<&[u8]> = encoded.iter().map(|entry| &entry.bytes[..]).collect();
    frame(&head, &raw)
}

/// Decodes AppendEntries; commands share the body's bytes. The entries follow each other without a gap.
pub(crate) fn decode_append(body: Bytes) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let (head, mut rest) = unframe::<AppendHead>(body)?;
    let mut last = head.previous;
    let mut entries = Vec::with_capacity(head.entries.len());
    for (term, index, length) in head.entries {
        let position = Position { term, index };
        let follows = match last {
            None => index == 0,
            Some(last) => last.index.checked_add(1) == Some(index) && last.term <= term,
        };
        if !follows {
            return Err(error(format!("entry {position} does not follow {last:?}")));
        }
        if rest.len() < length as usize {
            return Err(error("an entry is cut off"));
        }
        let entry = LogEntry { position, bytes: rest.split_to(length as usize) };
        entries.push(decode_entry(&entry).map_err(error)?);
        last = Some(position);
    }
    if !rest.is_empty() {
        return Err(error("bytes after the entries"));
    }
    Ok(AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: head.previous.map(Into::into),
        entries,
        leader_commit: head.committed.map(Into::into),
    })
}

/// Encodes the answer to AppendEntries.
pub(crate) fn encode_append_reply(reply: &AppendEntriesResponse<VoterId>) -> Bytes {
    let reply = match reply {
        AppendEntriesResponse::Success => AppendReply::Success,
        AppendEntriesResponse::PartialSuccess(last) => AppendReply::Partial(last.map(Into::into)),
        AppendEntriesResponse::Conflict => AppendReply::Conflict,
        AppendEntriesResponse::HigherVote(vote) => AppendReply::HigherVote((*vote).into()),
    };
    frame(&reply, &[])
}

/// Decodes the answer to AppendEntries.
pub(crate) fn decode_append_reply(body: Bytes) -> Result<AppendEntriesResponse<VoterId>, WireError> {
    Ok(match unframe_plain(body)? {
        AppendReply::Success => AppendEntriesResponse::Success,
        AppendReply::Partial(last) => AppendEntriesResponse::PartialSuccess(last.map(Into::into)),
        AppendReply::Conflict => AppendEntriesResponse::Conflict,
        AppendReply::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
    })
}

/// Encodes a request for a vote.
pub(crate) fn encode_vote(rpc: &VoteRequest<VoterId>) -> Bytes {
    frame(&VoteHead { vote: rpc.vote.into(), last: rpc.last_log_id.map(Into::into) }, &[])
}

/// Decodes a request for a vote.
pub(crate) fn decode_vote(body: Bytes) -> Result<VoteRequest<VoterId>, WireError> {
    let head: VoteHead = unframe_plain(body)?;
    Ok(VoteRequest { vote: head.vote.into(), last_log_id: head.last.map(Into::into) })
}

/// Encodes the answer to a request for a vote.
pub(crate) fn encode_vote_reply(reply: &VoteResponse<VoterId>) -> Bytes {
    let (vote, granted) = (reply.vote.into(), reply.vote_granted);
    frame(&VoteReply { vote, granted, last: reply.last_log_id.map(Into::into) }, &[])
}

/// Decodes the answer to a request for a vote.
pub(crate) fn decode_vote_reply(body: Bytes) -> Result<VoteResponse<VoterId>, WireError> {
    let VoteReply { vote, granted, last } = unframe_plain(body)?;
    Ok(VoteResponse { vote: vote.into(), vote_granted: granted, last_log_id: last.map(Into::into) })
}

/// Encodes a chunk of a snapshot.
pub(crate) fn encode_chunk(rpc: &InstallSnapshotRequest<TypeConfig>) -> Bytes {
    let head =
        SnapshotHead { vote: rpc.vote.into(), meta: rpc.meta.clone(), offset: rpc.offset, done: rpc.done };
    frame(&head, &[&rpc.data])
}

/// Decodes a chunk of a snapshot.
pub(crate) fn decode_chunk(body: Bytes) -> Result<InstallSnapshotRequest<TypeConfig>, WireError> {
    let (head, data) = unframe::<SnapshotHead>(body)?;
    let SnapshotHead { vote, meta, offset, done } = head;
    Ok(InstallSnapshotRequest { vote: vote.into(), meta, offset, data: data.into(), done })
}

/// Encodes the answer to a chunk.
pub(crate) fn encode_chunk_answer(answer: ChunkAnswer) -> Bytes {
    frame(
        &match answer {
            ChunkAnswer::Received(vote) => SnapshotReply::Received(vote.into()),
            ChunkAnswer::Mismatch(mismatch) => SnapshotReply::Mismatch(mismatch),
        },
        &[],
    )
}

/// Decodes the answer to a chunk.
pub(crate) fn decode_chunk_answer(body: Bytes) -> Result<ChunkAnswer, WireError> {
    Ok(match unframe_plain(body)? {
        SnapshotReply::Received(vote) => ChunkAnswer::Received(vote.into()),
        SnapshotReply::Mismatch(mismatch) => ChunkAnswer::Mismatch(mismatch),
    })
}

/// Decodes a body as every kind there is; says how many took it.
#[doc(hidden)]
pub fn decode_any(body: Bytes) -> usize {
    let taken = [
        decode_append(body.clone()).is_ok(),
        decode_append_reply(body.clone()).is_ok(),
        decode_vote(body.clone()).is_ok(),
        decode_vote_reply(body.clone()).is_ok(),
        decode_chunk(body.clone()).is_ok(),
        decode_chunk_answer(body).is_ok(),
    ];
    taken.into_iter().filter(|taken| *taken).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;
    use vltava_raft_store::{Command, RaftEntry};

    fn vote() -> RaftVote {
        VoteRecord { term: 7, voted_for: Some(VoterId::new(2, 5)), committed: true }.into()
    }

    fn append() -> AppendEntriesRequest<TypeConfig> {
        let entry = |index, payload| RaftEntry { log_id: Position { term: 7, index }.into(), payload };
        AppendEntriesRequest {
            vote: vote(),
            prev_log_id: Some(Position { term: 6, index: 40 }.into()),
            entries: vec![
                entry(41, EntryPayload::Blank),
                entry(42, EntryPayload::Normal(Command(Bytes::from_static(b"facts")))),
                entry(43, EntryPayload::Normal(Command(vec![9; 10_000].into()))),
            ],
            leader_commit: Some(Position { term: 6, index: 39 }.into()),
        }
    }

    #[test]
    fn entries_survive_and_cost_little_more_than_their_bytes() {
        let sent = append();
        let body = encode_append(&sent);
        assert!(body.len() < 10_000 + 600, "{}", body.len());
        let read = decode_append(body).unwrap();
        assert_eq!(format!("{read:?}"), format!("{sent:?}"));
        assert_eq!(read.entries, sent.entries);
    }

    #[test]
    fn cut_and_changed_bytes_are_errors_or_other_messages_but_never_panics() {
        let body = encode_append(&append());
        for length in 0..body.len().min(700) {
            assert!(decode_append(body.slice(..length)).is_err(), "cut to {length}");
        }
        for position in 0..700 {
            let mut changed = body.to_vec();
            changed[position] ^= 0x55;
            let _ = decode_append(changed.into());
        }
        let mut longer = body.to_vec();
        longer.push(0);
        assert!(decode_append(longer.into()).is_err());
        assert!(decode_vote(Bytes::from_static(&[255, 255, 255, 255, 1])).is_err());
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        let mut sent = append();
        sent.entries.remove(1);
        assert!(decode_append(encode_append(&sent)).is_err());
        let mut sent = append();
        sent.prev_log_id = None;
        assert!(decode_append(encode_append(&sent)).is_err());
    }

    #[test]
    fn votes_chunks_and_answers_survive() {
        let request = VoteRequest { vote: vote(), last_log_id: None };
        assert_eq!(decode_vote(encode_vote(&request)).unwrap(), request);
        let reply = VoteResponse {
            vote: vote(),
            vote_granted: true,
            last_log_id: Some(Position { term: 1, index: 2 }.into()),
        };
        assert_eq!(decode_vote_reply(encode_vote_reply(&reply)).unwrap(), reply);
        let chunk = InstallSnapshotRequest::<TypeConfig> {
            vote: vote(),
            meta: RaftSnapshotMeta { snapshot_id: "s".into(), ..RaftSnapshotMeta::default() },
            offset: 1 << 20,
            data: vec![1, 2, 3],
            done: true,
        };
        assert_eq!(decode_chunk(encode_chunk(&chunk)).unwrap(), chunk);
        let answers = [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote()),
        ];
        for answer in answers {
            assert_eq!(decode_append_reply(encode_append_reply(&answer)).unwrap(), answer);
        }
        let received = decode_chunk_answer(encode_chunk_answer(ChunkAnswer::Received(vote()))).unwrap();
        assert!(matches!(received, ChunkAnswer::Received(it) if it == vote()));
    }
}
