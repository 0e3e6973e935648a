//! Brokers that end themselves after a sync that failed and start again, without a reboot, before the power fails.

use std::io::ErrorKind;

use vltava_storage::{Fault, FaultPoint};

use super::*;

/// A broker, as far as its directory goes, with one log.
struct Broker {
    directories: Directories,
    log: Log,
}

impl Broker {
    /// Starts as a broker does: what recovery found is synced before it counts, or the journal has it.
    fn start(storage: &MemoryStorage) -> Self {
        let directories = open(storage);
        let mut log = open_log(&directories, 0).unwrap();
        let moved = secure(&directories, &mut log, 0, Journaling::Each);
        let broker = Self { directories, log };
        if moved.is_some() {
            broker.save_point();
        }
        broker.directories.replay_done();
        broker
    }

    fn save_point(&self) {
        let id = self.directories.of(partition(0)).unwrap();
        self.directories.save_points(&[(id, partition(0), self.log.recovery_point())]);
    }

    /// Appends so many batches, each acknowledged when the journal has it; stops at the first error.
    fn append(&mut self, batches: u64) -> Result<(), ()> {
        for _ in 0..batches {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(1_000, None, Some(&[b'v'; 700]), &[]).unwrap();
            let batch = Batch::parse(builder.build()).unwrap();
            let batch = batch.with_position(self.log.log_end(), LeaderEpoch::new(1));
            // A file whose sync has failed takes no more.
            let appended = self.log.append(&batch, 5).map_err(drop)?;
            let body = EntryBody::Append {
                base_offset: appended.base,
                end_offset: appended.end,
                bytes: appended.bytes,
                segment: appended.segment,
            };
            let entry = JournalEntry { partition: partition(0), leader_epoch: LeaderEpoch::new(1), body };
            let journal = self.directories.journal(self.directories.of(partition(0)).unwrap()).ok_or(())?;
            let (done, finished) = queue::bounded(&Bell::new(), 1);
            journal.submit(vec![entry], Box::new(move |result| drop(done.send(result)))).map_err(drop)?;
            finished.recv().unwrap().map_err(drop)?;
            for (_, end) in self.directories.take_synced(|_, _| true) {
                self.log.advance_recovery_point(end).map_err(drop)?;
                self.save_point();
            }
        }
        Ok(())
    }
}

/// One sync fails, the broker goes, comes back to the same page cache, and counts what it finds; then the power fails.
fn all_that_was_counted_is_there(path: &str, after: u64) {
    let storage = MemoryStorage::new();
    let mut broker = Broker::start(&storage);
    let (path, error) = (path.to_owned(), ErrorKind::Other);
    let text = format!("{path} after {after}");
    storage.inject(Fault { at: FaultPoint::SyncData, path, after, times: 1, error });
    let acknowledged = |broker: &mut Broker| (0..400).find(|_| broker.append(1).is_err()).unwrap_or(400);
    let acknowledged = acknowledged(&mut broker);
    drop(broker);
    storage.heal();

    let mut broker = Broker::start(&storage);
    let counted = broker.log.log_end();
    assert!(counted.get() >= acknowledged, "{text}: {counted} of {acknowledged}");
    let found = |storage: &MemoryStorage| Broker::start(&survivor(storage, 0, CrashMode::LoseUnsynced)).log;
    assert_eq!(found(&storage).log_end(), counted, "{text}");

    broker.append(150).unwrap();
    let log = found(&storage);
    assert_eq!(log.log_end().get(), counted.get() + 150, "{text}");
    let reader = log.reader();
    let mut next = Offset::ZERO;
    while next < log.log_end() {
        next = reader.read(next, 1 << 20, log.log_end()).unwrap().end;
    }
}

#[test]
fn a_failed_sync_of_the_journal_takes_nothing_that_is_counted_after_a_restart() {
    // The header of the second file, when it is made and each time it is begun anew, among them.
    for file in ["1.journal", "2.journal", "3.journal"] {
        (0..6).for_each(|after| all_that_was_counted_is_there(file, after));
    }
    (0..100).step_by(3).for_each(|after| all_that_was_counted_is_there("journal", after));
}

#[test]
fn a_failed_sync_of_a_segment_takes_nothing_that_is_counted_after_a_restart() {
    for file in [".log", ".check", "checkpoint", DIR] {
        (0..4).for_each(|after| all_that_was_counted_is_there(file, after));
    }
}
