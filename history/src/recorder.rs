//! Records one run's history from many threads: gives out references, keeps consecutive acks together, writes.
//!
//! Knows no clock: every time is the caller's, from one clock. A write that fails is remembered and told by
//! [`Recorder::flush`] and [`Recorder::finish`]; what is recorded after it is lost, and the history has no end.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vltava_model::{Offset, PartitionIndex, TopicId};

use crate::event::{
    At, Begin, Client, ClientRef, Event, FaultBegins, FaultEnds, FaultRef, Outcome, Partition, PartitionRef,
    Place, Produce, Retention, Role, RunId,
};
use crate::format::Writer;

/// Acks that are told within this time of each other, of records handed over within it, may be recorded as one:
/// how exact latencies are.
const TOGETHER_NANOS: u64 = 1_000_000;

/// Records one history. Shared by reference (or `Arc`) between all that have to tell something.
pub struct Recorder {
    run: RunId,
    inner: Mutex<Inner>,
}

struct Inner {
    writer: Writer<Box<dyn Write + Send>>,
    clients: u32,
    faults: u32,
    partitions: HashMap<(TopicId, PartitionIndex), PartitionRef>,
    places: Vec<Place>,
    /// Acks that may go on, by producer and partition: ordered, so that like runs make like files.
    open: BTreeMap<(ClientRef, PartitionRef), Produce>,
    failed: Option<io::Error>,
}

/// What was recorded in memory.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// A copy of the bytes so far: what a file would hold.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recorder {
    /// Starts a file; an existing one is replaced.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn create(path: &Path, begin: Begin) -> io::Result<Self> {
        Self::new(Box::new(File::create(path)?), begin)
    }

    /// Starts a history in memory, for simulations.
    pub fn in_memory(begin: Begin) -> (Self, Memory) {
        let memory = Memory::default();
        let recorder = Self::new(Box::new(memory.clone()), begin).expect("memory can be written");
        (recorder, memory)
    }

    fn new(out: Box<dyn Write + Send>, begin: Begin) -> io::Result<Self> {
        let run = begin.run;
        let mut writer = Writer::new(out)?;
        writer.append(&Event::Begin(begin))?;
        let inner = Inner {
            writer,
            clients: 0,
            faults: 0,
            partitions: HashMap::new(),
            places: Vec::new(),
            open: BTreeMap::new(),
            failed: None,
        };
        Ok(Self { run, inner: Mutex::new(inner) })
    }

    /// The run's id, for payloads.
    pub fn run(&self) -> RunId {
        self.run
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares a client.
    pub fn client(&self, name: &str, role: Role) -> ClientRef {
        let mut inner = self.lock();
        let client = ClientRef::new(inner.clients);
        inner.clients += 1;
        inner.append(&Event::Client(Client { client, name: name.to_owned(), role }));
        client
    }

    /// Declares a partition. The same topic id and index give the same reference again.
    pub fn partition(
        &self,
        topic: TopicId,
        name: &str,
        index: PartitionIndex,
        retention: Retention,
    ) -> PartitionRef {
        let mut inner = self.lock();
        if let Some(known) = inner.partitions.get(&(topic, index)) {
            return *known;
        }
        let number = u32::try_from(inner.places.len()).expect("nobody declares four billion partitions");
        let partition = PartitionRef::new(number);
        inner.partitions.insert((topic, index), partition);
        inner.places.push(Place { run: self.run, topic, index });
        let name = name.to_owned();
        inner.append(&Event::Partition(Partition { partition, topic, name, index, retention }));
        partition
    }

    /// What records of a partition must say of themselves, for [`crate::event::Poll::saw`].
    ///
    /// # Panics
    /// When the partition is another recorder's.
    pub fn place(&self, partition: PartitionRef) -> Place {
        self.lock().places[partition.get() as usize]
    }

    /// Records an event that ended just now.
    pub fn record(&self, event: Event) {
        let mut inner = self.lock();
        match event {
            Event::Produce(produce) => inner.produced(produce),
            Event::Poll(_) => inner.append(&event),
            _ => {
                inner.close_open();
                inner.append(&event);
            }
        }
    }

    /// Records that a fault begins; `begins.fault` is overwritten by the number that is returned.
    pub fn fault_begins(&self, mut begins: FaultBegins) -> FaultRef {
        let mut inner = self.lock();
        let fault = FaultRef::new(inner.faults);
        inner.faults += 1;
        begins.fault = fault;
        inner.close_open();
        inner.append(&Event::FaultBegins(begins));
        fault
    }

    /// Records that a fault ends.
    pub fn fault_ends(&self, fault: FaultRef, at: At) {
        self.record(Event::FaultEnds(FaultEnds { fault, at }));
    }

    /// Hands everything recorded so far to the operating system.
    ///
    /// # Errors
    /// When that, or an earlier write, fails.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().flush()
    }

    /// Ends the history: every operation that was begun has been recorded.
    ///
    /// # Errors
    /// When that, or an earlier write, fails.
    pub fn finish(&self, at: At) -> io::Result<()> {
        self.record(Event::End { at });
        self.flush()
    }
}

impl Drop for Recorder {
    /// What a panicking test recorded is worth reading; that nothing more came is told by the missing end.
    fn drop(&mut self) {
        drop(self.flush());
    }
}

impl Inner {
    fn append(&mut self, event: &Event) {
        if self.failed.is_none() {
            self.failed = self.writer.append(event).err();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.close_open();
        if self.failed.is_none() {
            self.failed = self.writer.flush().err();
        }
        // It stays failed: what comes after is missing.
        match &self.failed {
            None => Ok(()),
            Some(failed) => Err(io::Error::new(failed.kind(), failed.to_string())),
        }
    }

    fn produced(&mut self, produce: Produce) {
        let stream = (produce.producer, produce.partition);
        if let Some(open) = self.open.get_mut(&stream) {
            if goes_on(open, &produce) {
                open.count += produce.count;
                open.invoked = open.invoked.min(produce.invoked);
                open.completed = open.completed.max(produce.completed);
                return;
            }
            let closed = self.open.remove(&stream).expect("it was found just now");
            self.append(&Event::Produce(closed));
        }
        if matches!(produce.outcome, Outcome::Ok(Some(_))) {
            self.open.insert(stream, produce);
        } else {
            self.append(&Event::Produce(produce));
        }
    }

    fn close_open(&mut self) {
        for (_, produce) in std::mem::take(&mut self.open) {
            self.append(&Event::Produce(produce));
        }
    }
}

/// Whether acks follow on each other without a gap in sequence, offsets and time.
fn goes_on(open: &Produce, next: &Produce) -> bool {
    let (Outcome::Ok(Some(first)), Outcome::Ok(Some(offset))) = (&open.outcome, &next.outcome) else {
        return false;
    };
    let count = u64::from(open.count);
    open.acks == next.acks
        && first.get().checked_add(count).map(Offset::new) == Some(*offset)
        && open.seq.checked_add(count) == Some(next.seq)
        && open.count.checked_add(next.count).is_some()
        && open.invoked.get().abs_diff(next.invoked.get()) <= TOGETHER_NANOS
        && open.completed.get().abs_diff(next.completed.get()) <= TOGETHER_NANOS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Acks;
    use crate::format::Reader;

    fn begin() -> Begin {
        Begin {
            run: RunId::new(1),
            seed: 1,
            title: String::new(),
            version: String::new(),
            started_unix_ms: 0,
        }
    }

    fn ack(producer: ClientRef, partition: PartitionRef, seq: u64, offset: u64, millis: u64) -> Event {
        Event::Produce(Produce {
            producer,
            partition,
            seq,
            count: 1,
            acks: Acks::All,
            invoked: At::nanos(millis * 1_000_000),
            completed: At::nanos((millis + 5) * 1_000_000),
            outcome: Outcome::Ok(Some(Offset::new(offset))),
        })
    }

    fn produced(memory: &Memory) -> Vec<(u64, u32)> {
        Reader::new(memory.bytes().as_slice())
            .unwrap()
            .filter_map(|event| match event.unwrap() {
                Event::Produce(produce) => Some((produce.seq, produce.count)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn acks_of_one_moment_are_one_operation() {
        let (recorder, memory) = Recorder::in_memory(begin());
        let producer = recorder.client("p", Role::IdempotentProducer);
        let partition =
            recorder.partition(TopicId::new(1), "t", PartitionIndex::new(0), Retention::Everything);
        let other = recorder.partition(TopicId::new(1), "t", PartitionIndex::new(1), Retention::Everything);
        for (seq, offset, millis) in [(0, 10, 0), (1, 11, 1), (2, 12, 1), (3, 14, 1), (4, 15, 100)] {
            recorder.record(ack(producer, partition, seq, offset, millis));
            recorder.record(ack(producer, other, seq, seq, 0));
        }
        recorder.finish(At::nanos(1 << 40)).unwrap();
        let mut produced = produced(&memory);
        produced.sort_unstable();
        assert_eq!(produced, [(0, 3), (0, 5), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_fault_comes_behind_the_acks_before_it() {
        let (recorder, memory) = Recorder::in_memory(begin());
        let producer = recorder.client("p", Role::IdempotentProducer);
        let partition =
            recorder.partition(TopicId::new(1), "t", PartitionIndex::new(0), Retention::Everything);
        recorder.record(ack(producer, partition, 0, 0, 0));
        let at = At::nanos(7_000_000);
        let begins = FaultBegins {
            fault: FaultRef::new(99),
            kind: "kill".to_owned(),
            nodes: Vec::new(),
            detail: String::new(),
            leads: Vec::new(),
            at,
        };
        let fault = recorder.fault_begins(begins);
        recorder.record(ack(producer, partition, 1, 1, 0));
        recorder.fault_ends(fault, at);
        recorder.finish(at).unwrap();
        let kinds: Vec<String> = Reader::new(memory.bytes().as_slice())
            .unwrap()
            .map(|event| format!("{:?}", event.unwrap()).split('(').next().unwrap().to_owned())
            .collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let expected = ["Begin", "Client", "Partition", "Produce", "FaultBegins", "Produce", "FaultEnds"];
        assert_eq!(kinds[..7], expected);
    }

    #[test]
    fn a_failed_write_is_told_at_every_flush() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() > 8 { Err(io::Error::other("disk full")) } else { Ok(bytes.len()) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = Recorder::new(Box::new(Full), begin()).unwrap();
        assert!(recorder.flush().is_err());
        recorder.client("p", Role::Consumer);
        assert!(recorder.flush().is_err(), "what was written after a failure could not be trusted");
    }
}
