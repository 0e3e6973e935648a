//! Bytes to events. The bytes may be anything: what does not fit is refused, and nothing is allocated on its word.

use vltava_model::{NodeId, Offset, PartitionIndex, TopicId};

use super::{NODES_MAX, SEEN_MAX, TEXT_MAX, tag};
use crate::event::{
    Acks, Action, Admin, Alien, Assign, At, Begin, Client, ClientRef, Event, FaultBegins, FaultEnds,
    FaultRef, Outcome, Partition, PartitionRef, Poll, Produce, Reading, Retention, Role, RunId, Seen,
};
use crate::payload::Payload;

/// What is wrong with a frame's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(&'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// How much of a frame's body was read, and the time of completion read last.
#[derive(Clone, Copy, Default)]
pub(super) struct Position {
    at: usize,
    last: u64,
}

/// Reads the events of one frame's body, one at a time: all at once would take many times the frame's size.
pub(super) struct Decoder<'a> {
    body: &'a [u8],
    rest: &'a [u8],
    last: u64,
}

impl<'a> Decoder<'a> {
    /// Reads on at a position in this body.
    pub(super) fn resume(body: &'a [u8], position: Position) -> Self {
        Self { body, rest: &body[position.at..], last: position.last }
    }

    /// Where the next event begins.
    pub(super) fn position(&self) -> Position {
        Position { at: self.body.len() - self.rest.len(), last: self.last }
    }

    /// The next event; `None` behind the last.
    pub(super) fn event(&mut self) -> Result<Option<Event>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let event = match self.byte()? {
            tag::BEGIN => Event::Begin(self.begin()?),
            tag::CLIENT => Event::Client(self.client()?),
            tag::PARTITION => Event::Partition(self.partition()?),
            tag::PRODUCE => Event::Produce(self.produce()?),
            tag::POLL => Event::Poll(self.poll()?),
            tag::ASSIGN => Event::Assign(Assign {
                consumer: self.client_ref()?,
                partition: self.partition_ref()?,
                from: self.offset()?,
                at: self.time()?,
            }),
            tag::ADMIN => Event::Admin(self.admin()?),
            tag::FAULT_BEGINS => Event::FaultBegins(self.fault_begins()?),
            tag::FAULT_ENDS => {
                Event::FaultEnds(FaultEnds { fault: FaultRef::new(self.small()?), at: self.time()? })
            }
            tag::END => Event::End { at: self.time()? },
            _ => return Err(Malformed("unknown kind of event")),
        };
        Ok(Some(event))
    }

    fn begin(&mut self) -> Result<Begin> {
        Ok(Begin {
            run: RunId::new(self.number()?),
            seed: self.number()?,
            title: self.text()?,
            version: self.text()?,
            started_unix_ms: self.number()?,
        })
    }

    fn client(&mut self) -> Result<Client> {
        let (client, name) = (self.client_ref()?, self.text()?);
        let role = match self.byte()? {
            0 => Role::IdempotentProducer,
            1 => Role::PlainProducer,
            2 => Role::Consumer,
            3 => Role::Administrator,
            _ => return Err(Malformed("unknown role")),
        };
        Ok(Client { client, name, role })
    }

    fn partition(&mut self) -> Result<Partition> {
        let partition = self.partition_ref()?;
        let (topic, name) = (self.topic()?, self.text()?);
        let index = PartitionIndex::new(self.small()?);
        let retention = match self.byte()? {
            0 => Retention::Everything,
            1 => Retention::Recent,
            _ => return Err(Malformed("unknown retention")),
        };
        Ok(Partition { partition, topic, name, index, retention })
    }

    fn produce(&mut self) -> Result<Produce> {
        let (producer, partition) = (self.client_ref()?, self.partition_ref()?);
        let (seq, count) = self.run()?;
        let acks = match self.byte()? {
            0 => Acks::None,
            1 => Acks::Leader,
            2 => Acks::All,
            _ => return Err(Malformed("unknown acks")),
        };
        let (invoked, completed) = self.span()?;
        let outcome = self.outcome(Self::offset)?;
        if let Outcome::Ok(Some(offset)) = outcome {
            fits(offset.get(), count)?;
        }
        Ok(Produce { producer, partition, seq, count, acks, invoked, completed, outcome })
    }

    fn poll(&mut self) -> Result<Poll> {
        let (consumer, partition) = (self.client_ref()?, self.partition_ref()?);
        let reading = match self.byte()? {
            0 => Reading::Along,
            1 => Reading::Final,
            _ => return Err(Malformed("unknown kind of reading")),
        };
        let (invoked, completed) = self.span()?;
        let (high_watermark, log_start) = (self.offset()?, self.offset()?);
        let seen = self.list(SEEN_MAX, Self::seen)?;
        Ok(Poll { consumer, partition, reading, invoked, completed, high_watermark, log_start, seen })
    }

    fn seen(&mut self) -> Result<Seen> {
        let kind = self.byte()?;
        let offset = Offset::new(self.number()?);
        fits(offset.get(), 1)?;
        let alien = match kind {
            tag::RECORDS => {
                let producer = self.client_ref()?;
                let (seq, count) = self.run()?;
                fits(offset.get(), count)?;
                return Ok(Seen::Records { offset, producer, seq, count });
            }
            tag::CORRUPT => Alien::Corrupt(self.text()?),
            tag::MISPLACED => Alien::Misplaced(self.payload()?),
            tag::FOREIGN => Alien::Foreign(self.payload()?),
            _ => return Err(Malformed("unknown kind of record")),
        };
        Ok(Seen::Alien { offset, alien: Box::new(alien) })
    }

    fn payload(&mut self) -> Result<Payload> {
        Ok(Payload {
            run: RunId::new(self.number()?),
            producer: self.client_ref()?,
            seq: self.number()?,
            topic: self.topic()?,
            partition: PartitionIndex::new(self.small()?),
        })
    }

    fn admin(&mut self) -> Result<Admin> {
        let client = self.client_ref()?;
        let (invoked, completed) = self.span()?;
        let outcome = self.outcome(|_| Ok(()))?;
        let action = match self.byte()? {
            tag::CREATE_TOPIC => Action::CreateTopic { name: self.text()?, partitions: self.small()? },
            tag::DELETE_TOPIC => Action::DeleteTopic { topic: self.topic()? },
            tag::DELETE_RECORDS => Action::DeleteRecords {
                partition: self.partition_ref()?,
                before: Offset::new(self.number()?),
            },
            tag::OTHER => Action::Other(self.text()?),
            _ => return Err(Malformed("unknown action")),
        };
        Ok(Admin { client, action, invoked, completed, outcome })
    }

    fn fault_begins(&mut self) -> Result<FaultBegins> {
        Ok(FaultBegins {
            fault: FaultRef::new(self.small()?),
            kind: self.text()?,
            nodes: self.list(NODES_MAX, |from| Ok(NodeId::new(from.small()?)))?,
            detail: self.text()?,
            leads: self.list(FaultBegins::LEADS_MAX, Self::partition_ref)?,
            at: self.time()?,
        })
    }

    fn outcome<T>(&mut self, ok: impl FnOnce(&mut Self) -> Result<T>) -> Result<Outcome<T>> {
        match self.byte()? {
            tag::OK => Ok(Outcome::Ok(ok(self)?)),
            tag::FAILED => Ok(Outcome::Failed(self.text()?)),
            tag::UNKNOWN => Ok(Outcome::Unknown(self.text()?)),
            _ => Err(Malformed("unknown outcome")),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed("ends within an event"))?;
        self.rest = rest;
        Ok(byte)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed("ends within an event"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number of more than 64 bits"))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| Malformed("a number of more than 32 bits"))
    }

    /// The first sequence number and how many follow.
    fn run(&mut self) -> Result<(u64, u32)> {
        let (seq, count) = (self.number()?, self.small()?);
        if count == 0 {
            return Err(Malformed("a run of no records"));
        }
        fits(seq, count)?;
        Ok((seq, count))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.small()? as usize;
        if length > TEXT_MAX {
            return Err(Malformed("a text that is too long"));
        }
        let text =
            std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn list<T>(&mut self, most: usize, mut entry: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = self.small()? as usize;
        if length > most || length > self.rest.len() {
            return Err(Malformed("a list that is too long"));
        }
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            list.push(entry(self)?);
        }
        Ok(list)
    }

    fn topic(&mut self) -> Result<TopicId> {
        let bytes = self.bytes(16)?;
        Ok(TopicId::from_slice(bytes).expect("16 bytes are an id"))
    }

    fn client_ref(&mut self) -> Result<ClientRef> {
        self.small().map(ClientRef::new)
    }

    fn partition_ref(&mut self) -> Result<PartitionRef> {
        self.small().map(PartitionRef::new)
    }

    fn offset(&mut self) -> Result<Option<Offset>> {
        match self.byte()? {
            0 => Ok(None),
            1 => Ok(Some(Offset::new(self.number()?))),
            _ => Err(Malformed("neither an offset nor none")),
        }
    }

    fn span(&mut self) -> Result<(At, At)> {
        let completed = self.time()?;
        let took = self.signed()?;
        Ok((At::nanos(completed.get().wrapping_sub(took)), completed))
    }

    fn time(&mut self) -> Result<At> {
        let difference = self.signed()?;
        self.last = self.last.wrapping_add(difference);
        Ok(At::nanos(self.last))
    }

    fn signed(&mut self) -> Result<u64> {
        let number = self.number()?;
        Ok((number >> 1) ^ (number & 1).wrapping_neg())
    }
}

/// The last of a run must be a number too, and so must what follows it.
fn fits(first: u64, count: u32) -> Result<()> {
    first.checked_add(u64::from(count)).map(|_| ()).ok_or(Malformed("a run beyond the last number"))
}
