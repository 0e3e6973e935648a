//! Order and grouping, without openraft.

use std::sync::Mutex;

use super::*;
use crate::memory_log::MemoryLog;
use crate::testing::{position, stored};

/// Waits in each append until it is let go, and notes how many entries came at once.
struct Gate {
    log: MemoryLog,
    open: std::sync::mpsc::Receiver<()>,
    groups: Arc<Mutex<Vec<usize>>>,
}

impl MetaLog for Gate {
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        self.open.recv().unwrap();
        self.groups.lock().unwrap().push(entries.len());
        self.log.append(entries)
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        self.log.truncate_from(index)
    }

    fn purge_up_to(&mut self, upto: Position) -> Result<(), LogError> {
        self.log.purge_up_to(upto)
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), LogError> {
        self.log.save_vote(vote)
    }

    fn read_vote(&self) -> Option<VoteRecord> {
        self.log.read_vote()
    }

    fn note_committed(&mut self, committed: Option<Position>) {
        self.log.note_committed(committed);
    }

    fn save_committed(&mut self) -> Result<(), LogError> {
        self.log.save_committed()
    }

    fn read_committed(&self) -> Option<Position> {
        self.log.read_committed()
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        self.log.read(range, max_bytes)
    }

    fn bounds(&self) -> LogBounds {
        self.log.bounds()
    }
}

#[test]
fn appends_that_wait_are_one_group_and_answer_in_order() {
    let (gate, open) = std::sync::mpsc::channel();
    let groups = Arc::new(Mutex::new(Vec::new()));
    let log = Gate { log: MemoryLog::default(), open, groups: groups.clone() };
    let (failure, _) = FailureReporter::new();
    let (requests, thread) = spawn(log, failure).unwrap();
    let done = Arc::new(Mutex::new(Vec::new()));
    let append = |index: u64| {
        let done = done.clone();
        let answer: Appended = Box::new(move |result| done.lock().unwrap().push((index, result.is_ok())));
        requests.blocking_send(Request::Append(vec![stored(1, index, 10)], answer)).unwrap();
    };
    append(0);
    // Give the owner time to take the first append and stand at the gate.
    std::thread::sleep(Duration::from_millis(50));
    for index in 1..5 {
        append(index);
        requests.blocking_send(Request::NoteCommitted(Some(position(1, 0)))).unwrap();
    }
    let (vote, voted) = oneshot::channel();
    let record = VoteRecord { term: 2, voted_for: None, committed: false };
    requests.blocking_send(Request::SaveVote(record, vote)).unwrap();
    append(5);
    assert!(done.lock().unwrap().is_empty(), "nothing is answered before it is durable");
    for _ in 0..3 {
        gate.send(()).unwrap();
    }
    // More appends than that must fail rather than wait.
    drop(gate);
    voted.blocking_recv().unwrap().unwrap();
    drop(requests);
    thread.join().unwrap();
    assert_eq!(*groups.lock().unwrap(), [1, 4, 1], "the vote keeps its place");
    assert_eq!(*done.lock().unwrap(), (0..6).map(|index| (index, true)).collect::<Vec<_>>());
}

#[test]
fn after_an_error_nothing_succeeds_in_a_group() {
    let (failure, watched) = FailureReporter::new();
    let (requests, thread) = spawn(MemoryLog::default(), failure).unwrap();
    let (sender, results) = std::sync::mpsc::channel();
    let answer: Appended = Box::new(move |result| sender.send(result.is_ok()).unwrap());
    requests.blocking_send(Request::Append(vec![stored(1, 0, 1), stored(1, 5, 1)], answer)).unwrap();
    assert!(!results.recv().unwrap());
    assert!(watched.get().unwrap().contains("does not follow"));
    drop(requests);
    thread.join().unwrap();
}
