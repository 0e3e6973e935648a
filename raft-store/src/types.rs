//! The types that openraft is told to use, and the store's own words for its positions and votes.
//!
//! A voter is a node *and* its directory: a controller whose disk was wiped has another directory id, so it is another
//! voter and can never vote as the one that it was. What a command means is unknown here.

use std::fmt;
use std::io::Cursor;
use std::str::FromStr;

use bytes::Bytes;
use openraft::{CommittedLeaderId, LeaderId, LogId, Vote};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

openraft::declare_raft_types!(
    /// openraft's parameters in Vltava.
    pub TypeConfig:
        D = Command,
        R = Applied,
        NodeId = VoterId,
        Node = VoterNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// An entry as openraft handles it.
pub type RaftEntry = openraft::Entry<TypeConfig>;
/// openraft's log id with our voters.
pub type RaftLogId = LogId<VoterId>;
/// openraft's vote with our voters.
pub type RaftVote = Vote<VoterId>;
/// The voters and learners as of some entry.
pub type RaftMembership = openraft::StoredMembership<VoterId, VoterNode>;
/// What a snapshot covers.
pub type RaftSnapshotMeta = openraft::SnapshotMeta<VoterId, VoterNode>;
/// openraft's error for anything that the store could not do; it ends the Raft core.
pub type RaftStorageError = openraft::StorageError<VoterId>;

/// One member of the controller quorum: which node, with which disk.
///
/// Written `3@0123456789abcdef0123456789abcdef` (node, directory id in hexadecimal), also by serde, so that it can be
/// the key of a JSON object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VoterId {
    /// The node's number from its configuration.
    pub node: u32,
    /// The id of the directory that holds its Raft log; made anew with the directory.
    pub directory: u128,
}

impl VoterId {
    /// The voter `node` with the directory `directory`.
    pub const fn new(node: u32, directory: u128) -> Self {
        Self { node, directory }
    }
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:032x}", self.node, self.directory)
    }
}

impl fmt::Debug for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `<node>@<32 hexadecimal digits>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a voter: write <node id>@<directory id, 32 hexadecimal digits>")]
pub struct VoterIdError(String);

impl FromStr for VoterId {
    type Err = VoterIdError;

    fn from_str(text: &str) -> Result<Self, VoterIdError> {
        let error = || VoterIdError(text.to_owned());
        let (node, directory) = text.split_once('@').ok_or_else(error)?;
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
        if directory.len() != 32 || !plain(node) || !plain(directory) {
            return Err(error());
        }
        let node = node.parse().map_err(|_| error())?;
        let directory = u128::from_str_radix(directory, 16).map_err(|_| error())?;
        Ok(Self { node, directory })
    }
}

impl Serialize for VoterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VoterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// openraft's conformance suite numbers its nodes.
#[cfg(test)]
impl From<u64> for VoterId {
    fn from(number: u64) -> Self {
        Self { node: number as u32, directory: u128::from(number) }
    }
}

/// Where a voter is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VoterNode {
    /// `host:port` of its controller listener.
    pub address: String,
}

impl fmt::Display for VoterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// What the active controller proposes: bytes that only the state machine understands.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_bytes(deserializer).map(Self)
    }
}

/// What the state machine answered to one entry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The index of the entry that was applied.
    pub index: u64,
    /// What [`crate::StateMachine::apply`] returned; empty for entries that carry no command.
    #[serde(serialize_with = "serialize_bytes", deserialize_with = "deserialize_bytes")]
    pub outcome: Bytes,
}

/// Text formats get hexadecimal, a quarter of what a list of numbers would take.
fn serialize_bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    if !serializer.is_human_readable() {
        return serializer.serialize_bytes(bytes);
    }
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
    }
    serializer.serialize_str(&text)
}

fn deserialize_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    if !deserializer.is_human_readable() {
        return Vec::<u8>::deserialize(deserializer).map(Bytes::from);
    }
    let text = String::deserialize(deserializer)?;
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(de::Error::custom("an odd number of hexadecimal digits"));
    }
    let digit =
        |d: u8| char::from(d).to_digit(16).ok_or_else(|| de::Error::custom("not a hexadecimal digit"));
    digits.chunks_exact(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// The place of an entry in the log, with the term that wrote it. One term has one leader, so this names an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Position {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// The entry's index; the first one is 0.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (term {})", self.index, self.term)
    }
}

impl From<RaftLogId> for Position {
    fn from(id: RaftLogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<Position> for RaftLogId {
    fn from(position: Position) -> Self {
        // The committed leader id is the term alone: one term has one leader.
        LogId::new(CommittedLeaderId::new(position.term, VoterId::default()), position.index)
    }
}

/// A Raft vote: the highest term this voter has seen, and whom it gave that term to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The term.
    pub term: u64,
    /// Who got this voter's vote in the term.
    pub voted_for: Option<VoterId>,
    /// Whether a quorum is known to have given it.
    pub committed: bool,
}

impl From<RaftVote> for VoteRecord {
    fn from(vote: RaftVote) -> Self {
        Self { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<VoteRecord> for RaftVote {
    fn from(vote: VoteRecord) -> Self {
        Vote { leader_id: LeaderId { term: vote.term, voted_for: vote.voted_for }, committed: vote.committed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_read_back_what_they_print() {
        let voter = VoterId::new(3, 0x00ff);
        assert_eq!(voter.to_string(), "3@000000000000000000000000000000ff");
        assert_eq!(voter.to_string().parse(), Ok(voter));
        for bad in [
            "",
            "3",
            "@",
            "3@ff",
            "+3@000000000000000000000000000000ff",
            "3@+00000000000000000000000000000ff",
        ] {
            assert!(bad.parse::<VoterId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn voters_can_be_keys_of_json_objects() {
        let map =
            std::collections::BTreeMap::from([(VoterId::new(1, 7), VoterNode { address: "a:1".into() })]);
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(
            serde_json::from_str::<std::collections::BTreeMap<VoterId, VoterNode>>(&text).unwrap(),
            map
        );
    }

    #[test]
    fn commands_and_outcomes_survive_json() {
        let command = Command(Bytes::from_static(&[0, 1, 0xfe, 0xff]));
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(text, "\"0001feff\"");
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
        for bad in ["\"0\"", "\"0g\"", "\"é\"", "7"] {
            assert!(serde_json::from_str::<Command>(bad).is_err(), "{bad}");
        }
        let applied = Applied { index: 9, outcome: command.0 };
        let text = serde_json::to_string(&applied).unwrap();
        assert_eq!(serde_json::from_str::<Applied>(&text).unwrap(), applied);
    }

    #[test]
    fn positions_and_votes_convert_without_loss() {
        let position = Position { term: 4, index: 17 };
        assert_eq!(Position::from(RaftLogId::from(position)), position);
        for committed in [false, true] {
            let vote = VoteRecord { term: 5, voted_for: Some(VoterId::new(2, 9)), committed };
            assert_eq!(VoteRecord::from(RaftVote::from(vote)), vote);
        }
    }
}
