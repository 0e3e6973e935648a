//! What a history consists of: declarations, operations of clients with their outcomes, and faults.
//!
//! Recorded in the order in which things ended, give or take what happened at once. Knows neither how events are
//! written to a file nor what must hold of them.

use vltava_model::{NodeId, Offset, PartitionIndex, TopicId};

use crate::payload::Payload;

pub use crate::refs::*;

/// The first event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Begin {
    /// Names the run in every payload.
    pub run: RunId,
    /// What the run was made from.
    pub seed: u64,
    /// What the run does, for people.
    pub title: String,
    /// The version under test.
    pub version: String,
    /// Milliseconds since 1970 when it started; 0 in simulations.
    pub started_unix_ms: u64,
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Writes, and promises that a retried record appears once and in order.
    IdempotentProducer,
    /// Writes without such promises.
    PlainProducer,
    /// Reads.
    Consumer,
    /// Changes topics and configuration.
    Administrator,
}

/// Declares a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// What it is called from here on.
    pub client: ClientRef,
    /// For people.
    pub name: String,
    /// What it does.
    pub role: Role,
}

/// Which records a partition may lose rightfully.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// None but those that an administrator deletes.
    Everything,
    /// Old ones: below the log start that consumers are told.
    Recent,
}

/// Declares a partition of one topic id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// What it is called from here on.
    pub partition: PartitionRef,
    /// The topic's id: what makes a recreated topic another one.
    pub topic: TopicId,
    /// The topic's name.
    pub name: String,
    /// Which partition.
    pub index: PartitionIndex,
    /// What it may lose.
    pub retention: Retention,
}

/// When a producer wanted to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Never: the outcome is known to nobody.
    None,
    /// When the leader has it, which may be lost with the leader.
    Leader,
    /// When every in-sync replica has it.
    All,
}

/// What became of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// It was done.
    Ok(T),
    /// It was not done and never will be.
    Failed(String),
    /// It may have been done, or yet be.
    Unknown(String),
}

/// Records that one producer sent to one partition: consecutive sequence numbers that shared their fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produce {
    /// Who.
    pub producer: ClientRef,
    /// Where to.
    pub partition: PartitionRef,
    /// The first record's sequence number.
    pub seq: u64,
    /// How many records, at least 1.
    pub count: u32,
    /// When an answer was wanted.
    pub acks: Acks,
    /// When the first was handed to the client.
    pub invoked: At,
    /// When the outcome was told.
    pub completed: At,
    /// The first record's offset (the others follow without gap), if the answer carried one.
    pub outcome: Outcome<Option<Offset>>,
}

/// Why a consumer read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Beside the load.
    Along,
    /// After it, to learn what lies there in the end.
    Final,
}

/// One answer that a consumer got from one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Poll {
    /// Who.
    pub consumer: ClientRef,
    /// Where from.
    pub partition: PartitionRef,
    /// Why.
    pub reading: Reading,
    /// When it asked.
    pub invoked: At,
    /// When the answer was there.
    pub completed: At,
    /// The high watermark that came along.
    pub high_watermark: Option<Offset>,
    /// The log start that came along.
    pub log_start: Option<Offset>,
    /// What was read, in the order in which it came; may be nothing.
    pub seen: Vec<Seen>,
}

/// Records that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Whole ones of one producer, sent to here, with consecutive offsets and sequence numbers.
    Records {
        /// Of the first.
        offset: Offset,
        /// Who sent them.
        producer: ClientRef,
        /// Of the first.
        seq: u64,
        /// How many, at least 1.
        count: u32,
    },
    /// One that nobody sent to here.
    Alien {
        /// Where it was read.
        offset: Offset,
        /// What it is.
        alien: Box<Alien>,
    },
}

/// What was read and does not belong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alien {
    /// Bytes that are no payload.
    Corrupt(String),
    /// A record of this run that was sent to another topic or partition.
    Misplaced(Payload),
    /// A record of another run.
    Foreign(Payload),
}

/// What identifies the records that belong into one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The run.
    pub run: RunId,
    /// The topic.
    pub topic: TopicId,
    /// Its partition.
    pub index: PartitionIndex,
}

impl Poll {
    /// Adds one record: decodes its value, and keeps consecutive ones together.
    pub fn saw(&mut self, place: Place, offset: Offset, value: Option<&[u8]>) {
        let payload = match value.map(Payload::decode) {
            Some(Ok(payload)) => payload,
            Some(Err(error)) => return self.alien(offset, Alien::Corrupt(error.to_string())),
            None => return self.alien(offset, Alien::Corrupt("no value".to_owned())),
        };
        if payload.run != place.run {
            return self.alien(offset, Alien::Foreign(payload));
        }
        if (payload.topic, payload.partition) != (place.topic, place.index) {
            return self.alien(offset, Alien::Misplaced(payload));
        }
        let now = (offset.get(), payload.producer, payload.seq);
        if let Some(Seen::Records { offset, producer, seq, count }) = self.seen.last_mut()
            && now == (offset.get() + u64::from(*count), *producer, seq.wrapping_add(u64::from(*count)))
            && *count < u32::MAX
        {
            *count += 1;
            return;
        }
        self.seen.push(Seen::Records { offset, producer: payload.producer, seq: payload.seq, count: 1 });
    }

    fn alien(&mut self, offset: Offset, alien: Alien) {
        self.seen.push(Seen::Alien { offset, alien: Box::new(alien) });
    }
}

/// A consumer was put somewhere: what it reads next need not follow what it read before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assign {
    /// Who.
    pub consumer: ClientRef,
    /// On which partition.
    pub partition: PartitionRef,
    /// Where it reads on; `None` where the cluster decides (the end, a group's commit).
    pub from: Option<Offset>,
    /// When.
    pub at: At,
}

/// An operation on more than records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// Who.
    pub client: ClientRef,
    /// What.
    pub action: Action,
    /// When it was asked for.
    pub invoked: At,
    /// When the outcome was told.
    pub completed: At,
    /// What became of it.
    pub outcome: Outcome<()>,
}

/// What an administrator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A topic to be created; its partitions are declared when its id is known.
    CreateTopic {
        /// By this name.
        name: String,
        /// With so many partitions.
        partitions: u32,
    },
    /// A topic to be deleted.
    DeleteTopic {
        /// Which.
        topic: TopicId,
    },
    /// All records below an offset to be deleted.
    DeleteRecords {
        /// Of which partition.
        partition: PartitionRef,
        /// Below which offset.
        before: Offset,
    },
    /// Anything that changes no record.
    Other(String),
}

/// A fault begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultBegins {
    /// What it is called when it ends.
    pub fault: FaultRef,
    /// One of few words, the same for like faults: `kill`, `pause`, `one-way partition`.
    pub kind: String,
    /// Whom it hits.
    pub nodes: Vec<NodeId>,
    /// More about it, for people.
    pub detail: String,
    /// Partitions whose leader it hits, if that is known: how soon they are writable again is measured.
    /// At most [`Self::LEADS_MAX`] are recorded.
    pub leads: Vec<PartitionRef>,
    /// When.
    pub at: At,
}

impl FaultBegins {
    /// How many led partitions of one fault are recorded.
    pub const LEADS_MAX: usize = 20_000;
}

/// A fault ends: what it broke can begin to heal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultEnds {
    /// Which.
    pub fault: FaultRef,
    /// When.
    pub at: At,
}

/// One line of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Which run this is.
    Begin(Begin),
    /// A client is declared.
    Client(Client),
    /// A partition is declared.
    Partition(Partition),
    /// Records were sent.
    Produce(Produce),
    /// Records were read.
    Poll(Poll),
    /// A consumer was put somewhere.
    Assign(Assign),
    /// Something was administered.
    Admin(Admin),
    /// A fault begins.
    FaultBegins(FaultBegins),
    /// A fault ends.
    FaultEnds(FaultEnds),
    /// The recording is complete: every operation that was begun is in it.
    End {
        /// When.
        at: At,
    },
}
