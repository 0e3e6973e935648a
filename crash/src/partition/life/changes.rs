//! The changes of one partition that a broker makes: appends, cuts, moves of its start, its beginning and its end.

use vltava_commitlog::durability::EntryBody;
use vltava_commitlog::log::LogConfig;
use vltava_model::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use vltava_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition};

use super::{Flush, Replica, Worker, partition, short};
use crate::partition::history::{Change, Content, History};
use crate::partition::process::NOW_MS;

impl Worker<'_> {
    /// A batch for the end of a log.
    fn batch(&mut self, of: TopicPartition, epoch: LeaderEpoch) -> Batch {
        let base = self.end_of(of);
        let records = 1 + self.dice.roll(4) as u32;
        let bytes = match self.dice.roll(24) {
            // One that the journal does not take: its segment is synced instead.
            0 => 9_000,
            1..6 => self.dice.roll(600),
            _ => self.dice.roll(90),
        };
        let mut builder = BatchBuilder::new(Compression::None);
        if self.dice.percent(60) {
            let id = self.dice.roll(3);
            let replica = self.replicas.get_mut(&of).expect("it is served");
            let sequence = replica.sequences.entry(id).or_default();
            let base_sequence = Sequence::new(*sequence);
            *sequence += records;
            let (id, epoch) = (ProducerId::new(id), ProducerEpoch::new(0));
            builder = builder.producer(ProducerStamp { id, epoch, base_sequence });
        }
        let stamp = self.dice.roll(99) as i64;
        for record in 0..records {
            let key = format!("{}-{base}-{record}-{epoch}", of.partition);
            let value = vec![self.dice.roll(256) as u8; bytes as usize / records as usize];
            let added = builder.append(stamp, Some(key.as_bytes()), Some(&value), &[]);
            added.expect("a small record fits");
        }
        let batch = Batch::parse(builder.build()).expect("it was just built");
        batch.with_position(base, epoch)
    }

    fn append(&mut self, of: TopicPartition, batch: &Batch) {
        let issued = self.now();
        let log = self.process.logs.get_mut(&of).expect("it is served");
        let appended = log.append(batch, NOW_MS).expect("it follows, and the disk is whole");
        let now = self.now();
        let mut after = self.content(of);
        after.batches.push(batch.clone());
        let history = self.history(of);
        history.begin(after, Change::Grew, issued);
        history.done(now);
        if self.replicas[&of].flush == Flush::Journal {
            // The epoch in which it is done, which may be newer than the batch's.
            let epoch = self.epoch();
            let (base_offset, end_offset) = (appended.base, appended.end);
            let (bytes, segment) = (appended.bytes, appended.segment);
            self.journal(of, epoch, EntryBody::Append { base_offset, end_offset, bytes, segment });
            self.mark(of);
        }
    }

    /// A leader's append.
    pub(super) fn append_own(&mut self, of: TopicPartition) {
        let batch = self.batch(of, self.epoch());
        self.note(format!("{} gets {} of its own", short(of), batch.header().base_offset));
        self.append(of, &batch);
    }

    /// What a leader sends: batches of its epoch, or of those that it took over from leaders before.
    pub(super) fn replicate(&mut self, of: TopicPartition) {
        for _ in 0..1 + self.dice.roll(3) {
            let latest = self.process.logs[&of].epochs().latest().map_or(0, |epoch| epoch.get());
            let latest = latest.max(self.replicas[&of].deleted_in);
            let epoch = latest + self.dice.roll(u64::from(self.life.epoch - latest) + 1) as u32;
            let batch = self.batch(of, LeaderEpoch::new(epoch));
            self.note(format!("{} gets {} of epoch {epoch}", short(of), batch.header().base_offset));
            self.append(of, &batch);
        }
    }

    /// Another leader is elected.
    fn elect(&mut self) -> LeaderEpoch {
        self.life.epoch += 1 + self.dice.roll(3) as u32;
        self.epoch()
    }

    /// It leads from now on.
    pub(super) fn lead(&mut self, of: TopicPartition) {
        let epoch = self.elect();
        self.note(format!("{} leads in {epoch}", short(of)));
        let log = self.process.logs.get_mut(&of).expect("it is served");
        let end = log.log_end();
        log.assign_epoch(epoch, end);
    }

    /// A follower's log is cut to where it agrees with its leader's.
    pub(super) fn truncate(&mut self, of: TopicPartition) {
        let before = self.content(of);
        let to = Offset::new(before.start + self.dice.roll(before.end() - before.start + 2));
        let epoch = self.elect();
        self.note(format!("{} is cut to {to} in {epoch}", short(of)));
        self.settle();
        let issued = self.now();
        let after = if to.get() < before.end() { before.cut(to.get()) } else { before };
        self.history(of).begin(after, Change::Shrank, issued);
        self.journal(of, epoch, EntryBody::Truncate { to });
        self.settle();
        self.process.directories.forget_synced(of);
        let log = self.process.logs.get_mut(&of).expect("it is served");
        let end = log.truncate_to(to, epoch, NOW_MS).expect("the disk is whole");
        self.process.points.push((self.process.directory, of, log.recovery_point()));
        let now = self.now();
        let history = self.history(of);
        assert_eq!(end.get(), history.now().end(), "a cut leaves whole batches");
        history.done(now);
        if self.replicas[&of].flush == Flush::Journal {
            // A cut is durable by itself.
            self.history(of).ack().give(now);
        }
    }

    /// A follower's log begins anew where its leader's does.
    pub(super) fn start_at(&mut self, of: TopicPartition) {
        let end = self.content(of).end();
        let offset = if self.dice.percent(70) { end + self.dice.roll(20) } else { self.dice.roll(end + 1) };
        let epoch = self.elect();
        self.note(format!("{} begins anew at {offset} in {epoch}", short(of)));
        self.replicas.get_mut(&of).expect("it is served").deleted_in = 0;
        self.settle();
        let issued = self.now();
        // What the journal says comes first.
        self.history(of).begin(Content::empty_at(0), Change::Shrank, issued);
        self.journal(of, epoch, EntryBody::Empty);
        self.settle();
        self.process.directories.forget_synced(of);
        let issued = self.now();
        self.history(of).begin(Content::empty_at(offset), Change::Shrank, issued);
        let log = self.process.logs.get_mut(&of).expect("it is served");
        log.delete_all_and_start_at(Offset::new(offset), epoch).expect("the disk is whole");
        // What comes next may be journaled in the same epoch: a replay is to know that it came after.
        self.journal(of, epoch, EntryBody::StartOffset { to: Offset::new(offset) });
        self.settle();
        let now = self.now();
        self.history(of).done(now);
        self.history(of).ack().give(now);
    }

    fn moved_start(&mut self, of: TopicPartition, issued: usize) {
        let now = self.now();
        let to = self.process.logs[&of].log_start();
        let before = self.content(of);
        let gone = before.batches.iter().map(Batch::header).filter(|header| header.base_offset < to);
        let newest = gone.filter_map(|header| header.leader_epoch).map(|epoch| epoch.get()).max();
        let replica = self.replicas.get_mut(&of).expect("it is served");
        replica.deleted_in = newest.unwrap_or_default().max(replica.deleted_in);
        // A crash may take what makes up for it, so that this is never lowered.
        let known = self.life.deleted_in.entry(of).or_default();
        *known = replica.deleted_in.max(*known);
        let after = before.from(to.get());
        let history = self.history(of);
        history.begin(after, Change::Grew, issued);
        history.done(now);
        let epoch = self.epoch();
        self.journal(of, epoch, EntryBody::StartOffset { to });
    }

    /// Records are deleted.
    pub(super) fn advance_log_start(&mut self, of: TopicPartition) {
        // None that is not committed.
        self.settle();
        let before = self.content(of);
        let to = before.start + self.dice.roll(before.end() - before.start + 1);
        self.note(format!("{} begins at {to}", short(of)));
        let issued = self.now();
        let log = self.process.logs.get_mut(&of).expect("it is served");
        log.advance_log_start(Offset::new(to)).expect("the disk is whole");
        self.moved_start(of, issued);
    }

    /// Old segments go.
    pub(super) fn retain(&mut self, of: TopicPartition) {
        self.settle();
        let config = self.life.setup.log_config();
        let bytes = self.dice.roll(2_500);
        self.note(format!("{} keeps {bytes} bytes", short(of)));
        let issued = self.now();
        let log = self.process.logs.get_mut(&of).expect("it is served");
        log.configure(LogConfig { retention_bytes: Some(bytes), ..config.clone() });
        let end = log.log_end();
        log.retention(NOW_MS, end).expect("the disk is whole");
        log.configure(config);
        self.moved_start(of, issued);
    }

    /// Its appends are journaled from now on, or are not any more.
    pub(super) fn reconfigure(&mut self, of: TopicPartition) {
        let replica = self.replicas.get_mut(&of).expect("it is served");
        replica.flush = match replica.flush {
            Flush::Journal => Flush::PageCache,
            Flush::PageCache => Flush::Journal,
        };
        let flush = replica.flush;
        self.note(format!("{} is left to {flush:?}", short(of)));
        let log = self.process.logs.get_mut(&of).expect("it is served");
        let (end_offset, point) = (log.log_end(), log.sync_point().expect("the disk is whole"));
        let epoch = self.epoch();
        self.journal(of, epoch, EntryBody::Sync { end_offset, segments: point.files });
        self.mark(of);
    }

    /// A topic is created.
    pub(super) fn create(&mut self) {
        self.topics += 1;
        let of = partition(self.topics, self.dice.roll(3) as u32);
        let issued = self.now();
        self.note(format!("{of} is created"));
        self.life.histories.push(History::new(of, Content::empty_at(0), issued));
        self.process.serve(of, false);
        assert!(self.process.refused.is_empty(), "{:?}", self.process.refused);
        self.process.save_points();
        self.host(of);
    }

    /// A topic is deleted.
    pub(super) fn delete(&mut self, of: TopicPartition) {
        self.note(format!("{of} is deleted"));
        self.settle();
        let issued = self.now();
        self.history(of).deleted = Some((issued, usize::MAX));
        self.process.delete(&[of]);
        let now = self.now();
        self.history(of).deleted = Some((issued, now));
        self.replicas.remove(&of);
    }

    /// A replica is damaged, and copied anew.
    pub(super) fn begin_anew(&mut self, of: TopicPartition) {
        self.note(format!("{} is damaged", short(of)));
        self.settle();
        let issued = self.now();
        self.history(of).begin(Content::empty_at(0), Change::Shrank, issued);
        self.life.begun_anew.push((of, issued, usize::MAX));
        drop(self.process.logs.remove(&of));
        self.process.points.retain(|(_, other, _)| *other != of);
        let directories = &self.process.directories;
        directories.mark_damaged(self.process.directory, of, "a bit").expect("the disk is whole");
        self.process.serve(of, true);
        assert!(self.process.refused.is_empty(), "{:?}", self.process.refused);
        self.process.save_points();
        let now = self.now();
        if let Some(last) = self.life.begun_anew.last_mut() {
            last.2 = now;
        }
        self.history(of).done(now);
        self.history(of).ack().give(now);
        let sequences = Default::default();
        self.replicas.insert(of, Replica { flush: Flush::Journal, deleted_in: 0, sequences });
    }
}
