//! Events to bytes.

use vltava_model::{Offset, TopicId};

use super::{NODES_MAX, SEEN_MAX, TEXT_MAX, tag};
use crate::event::{
    Acks, Action, Admin, Alien, Assign, At, Begin, Client, Event, FaultBegins, Outcome, Partition, Poll,
    Produce, Reading, Retention, Role, Seen,
};
use crate::payload::Payload;

/// Writes events behind each other; what a frame's events share is forgotten by [`Encoder::take`].
#[derive(Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    last: u64,
}

impl Encoder {
    /// How many bytes were written since the last [`Self::take`].
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes since the last call; the next event starts a frame.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.last = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Writes one event.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Begin(begin) => self.begin(begin),
            Event::Client(client) => self.client(client),
            Event::Partition(partition) => self.partition(partition),
            Event::Produce(produce) => self.produce(produce),
            Event::Poll(poll) => self.poll(poll, &poll.seen),
            Event::Assign(assign) => self.assign(assign),
            Event::Admin(admin) => self.admin(admin),
            Event::FaultBegins(fault) => self.fault_begins(fault),
            Event::FaultEnds(fault) => {
                self.byte(tag::FAULT_ENDS);
                self.number(u64::from(fault.fault.get()));
                self.time(fault.at);
            }
            Event::End { at } => {
                self.byte(tag::END);
                self.time(*at);
            }
        }
    }

    fn begin(&mut self, begin: &Begin) {
        self.byte(tag::BEGIN);
        self.number(begin.run.get());
        self.number(begin.seed);
        self.text(&begin.title);
        self.text(&begin.version);
        self.number(begin.started_unix_ms);
    }

    fn client(&mut self, client: &Client) {
        self.byte(tag::CLIENT);
        self.number(u64::from(client.client.get()));
        self.text(&client.name);
        self.byte(match client.role {
            Role::IdempotentProducer => 0,
            Role::PlainProducer => 1,
            Role::Consumer => 2,
            Role::Administrator => 3,
        });
    }

    fn partition(&mut self, partition: &Partition) {
        self.byte(tag::PARTITION);
        self.number(u64::from(partition.partition.get()));
        self.topic(partition.topic);
        self.text(&partition.name);
        self.number(u64::from(partition.index.get()));
        self.byte(match partition.retention {
            Retention::Everything => 0,
            Retention::Recent => 1,
        });
    }

    fn produce(&mut self, produce: &Produce) {
        self.byte(tag::PRODUCE);
        self.number(u64::from(produce.producer.get()));
        self.number(u64::from(produce.partition.get()));
        self.number(produce.seq);
        self.number(u64::from(produce.count));
        self.byte(match produce.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => 2,
        });
        self.span(produce.invoked, produce.completed);
        self.outcome(&produce.outcome, |to, offset| to.offset(*offset));
    }

    /// One answer's entries, or some of them.
    pub(super) fn poll(&mut self, poll: &Poll, seen: &[Seen]) {
        assert!(seen.len() <= SEEN_MAX, "a poll of {} entries could not be read back", seen.len());
        self.byte(tag::POLL);
        self.number(u64::from(poll.consumer.get()));
        self.number(u64::from(poll.partition.get()));
        self.byte(match poll.reading {
            Reading::Along => 0,
            Reading::Final => 1,
        });
        self.span(poll.invoked, poll.completed);
        self.offset(poll.high_watermark);
        self.offset(poll.log_start);
        self.number(seen.len() as u64);
        for seen in seen {
            self.seen(seen);
        }
    }

    fn seen(&mut self, seen: &Seen) {
        match seen {
            Seen::Records { offset, producer, seq, count } => {
                self.byte(tag::RECORDS);
                self.number(offset.get());
                self.number(u64::from(producer.get()));
                self.number(*seq);
                self.number(u64::from(*count));
            }
            Seen::Alien { offset, alien } => {
                self.byte(match **alien {
                    Alien::Corrupt(_) => tag::CORRUPT,
                    Alien::Misplaced(_) => tag::MISPLACED,
                    Alien::Foreign(_) => tag::FOREIGN,
                });
                self.number(offset.get());
                match &**alien {
                    Alien::Corrupt(reason) => self.text(reason),
                    Alien::Misplaced(payload) | Alien::Foreign(payload) => self.payload(payload),
                }
            }
        }
    }

    fn payload(&mut self, payload: &Payload) {
        self.number(payload.run.get());
        self.number(u64::from(payload.producer.get()));
        self.number(payload.seq);
        self.topic(payload.topic);
        self.number(u64::from(payload.partition.get()));
    }

    fn assign(&mut self, assign: &Assign) {
        self.byte(tag::ASSIGN);
        self.number(u64::from(assign.consumer.get()));
        self.number(u64::from(assign.partition.get()));
        self.offset(assign.from);
        self.time(assign.at);
    }

    fn admin(&mut self, admin: &Admin) {
        self.byte(tag::ADMIN);
        self.number(u64::from(admin.client.get()));
        self.span(admin.invoked, admin.completed);
        self.outcome(&admin.outcome, |_, ()| ());
        match &admin.action {
            Action::CreateTopic { name, partitions } => {
                self.byte(tag::CREATE_TOPIC);
                self.text(name);
                self.number(u64::from(*partitions));
            }
            Action::DeleteTopic { topic } => {
                self.byte(tag::DELETE_TOPIC);
                self.topic(*topic);
            }
            Action::DeleteRecords { partition, before } => {
                self.byte(tag::DELETE_RECORDS);
                self.number(u64::from(partition.get()));
                self.number(before.get());
            }
            Action::Other(what) => {
                self.byte(tag::OTHER);
                self.text(what);
            }
        }
    }

    fn fault_begins(&mut self, fault: &FaultBegins) {
        self.byte(tag::FAULT_BEGINS);
        self.number(u64::from(fault.fault.get()));
        self.text(&fault.kind);
        let nodes = &fault.nodes[..fault.nodes.len().min(NODES_MAX)];
        self.number(nodes.len() as u64);
        nodes.iter().for_each(|node| self.number(u64::from(node.get())));
        self.text(&fault.detail);
        let leads = &fault.leads[..fault.leads.len().min(FaultBegins::LEADS_MAX)];
        self.number(leads.len() as u64);
        leads.iter().for_each(|led| self.number(u64::from(led.get())));
        self.time(fault.at);
    }

    fn outcome<T>(&mut self, outcome: &Outcome<T>, ok: impl FnOnce(&mut Self, &T)) {
        match outcome {
            Outcome::Ok(value) => {
                self.byte(tag::OK);
                ok(self, value);
            }
            Outcome::Failed(reason) => {
                self.byte(tag::FAILED);
                self.text(reason);
            }
            Outcome::Unknown(reason) => {
                self.byte(tag::UNKNOWN);
                self.text(reason);
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }

    fn topic(&mut self, topic: TopicId) {
        self.bytes.extend(topic.to_bytes());
    }

    /// A byte that tells whether there is one, and the offset.
    fn offset(&mut self, offset: Option<Offset>) {
        self.byte(u8::from(offset.is_some()));
        if let Some(offset) = offset {
            self.number(offset.get());
        }
    }

    fn span(&mut self, invoked: At, completed: At) {
        self.time(completed);
        self.signed(completed.get().wrapping_sub(invoked.get()));
    }

    fn time(&mut self, at: At) {
        self.signed(at.get().wrapping_sub(self.last));
        self.last = at.get();
    }

    /// Zigzag, so that a small step back is as short as one ahead.
    fn signed(&mut self, difference: u64) {
        let signed = difference as i64;
        self.number(((signed << 1) ^ (signed >> 63)) as u64);
    }
}
