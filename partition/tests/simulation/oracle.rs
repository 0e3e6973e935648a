//! What must hold, whatever happens. Knows all nodes at once, which no node does.

use std::collections::{BTreeMap, BTreeSet};

use vltava_model::{LeaderEpoch, NodeId, Offset};
use vltava_partition::{Durability, Offsets};

use crate::disk::{Disk, LogImage, Record};

/// What is known of all that ever happened.
#[derive(Default)]
pub struct Oracle {
    /// The records below the greatest high watermark that any replica ever had, from offset 0.
    committed: Vec<Record>,
    /// Which value was written where under which epoch.
    written: BTreeMap<(Offset, LeaderEpoch), u64>,
    leaders: BTreeMap<LeaderEpoch, NodeId>,
    /// Acknowledged with `acks=all`.
    pub acked: BTreeMap<Offset, u64>,
    /// What the wiped disks held, since a wipe may follow a report at once.
    pub ghosts: Vec<LogImage>,
    /// Whose disk is gone while metadata do not know it yet.
    pub wiped: BTreeSet<NodeId>,
}

/// Whatever is checked, in words.
pub type Checked = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

impl Oracle {
    pub fn committed_end(&self) -> Offset {
        Offset::new(self.committed.len() as u64)
    }

    /// I1: an (offset, epoch) is one record for ever.
    pub fn appended(&mut self, offset: Offset, record: Record) -> Checked {
        let known = *self.written.entry((offset, record.epoch)).or_insert(record.value);
        ensure!(known == record.value, "I1: two records at {offset} under epoch {}", record.epoch);
        Ok(())
    }

    /// I3: one leader in each epoch.
    pub fn leads(&mut self, node: NodeId, epoch: LeaderEpoch) -> Checked {
        let leader = *self.leaders.entry(epoch).or_insert(node);
        ensure!(leader == node, "I3: {leader} and {node} lead in epoch {epoch}");
        Ok(())
    }

    /// I4, I6: the watermark of a process never goes back, and the log stays as the machine believes it to be.
    pub fn stepped(&mut self, node: NodeId, before: Offsets, after: Offsets, disk: &Disk) -> Checked {
        ensure!(after.high_watermark >= before.high_watermark, "I4: {node}: {before:?} to {after:?}");
        ensure!(after.log_start >= before.log_start, "I13: {node}: {before:?} to {after:?}");
        let (start, end) = (disk.written.start(), disk.written.end());
        ensure!(
            (after.log_start, after.log_end) == (start, end),
            "{node}: {after:?}, but the log is {start}..{end}"
        );
        self.is_durable(node, after, disk)?;
        for offset in before.high_watermark.get()..after.high_watermark.get() {
            self.exposed(node, Offset::new(offset), &disk.written)?;
        }
        Ok(())
    }

    /// What a machine takes for durable is on stable storage, and is what the log holds there.
    fn is_durable(&self, node: NodeId, offsets: Offsets, disk: &Disk) -> Checked {
        let end = offsets.durable_end;
        ensure!(disk.stable.end() >= end, "{node}: {offsets:?}, but {} is synced", disk.stable.end());
        if end > offsets.log_start {
            let last = Offset::new(end.get() - 1);
            let (stable, written) = (disk.stable.get(last), disk.written.get(last));
            ensure!(stable == written, "{node}: {stable:?} is durable at {last}, not {written:?}");
        }
        Ok(())
    }

    /// P2: what is committed once is committed for ever, and the same everywhere.
    fn exposed(&mut self, node: NodeId, offset: Offset, log: &LogImage) -> Checked {
        let Some(record) = log.get(offset) else { return Ok(()) };
        match self.committed.get(offset.get() as usize) {
            Some(known) => {
                ensure!(
                    *known == record,
                    "I2: {node} has {record:?} as committed at {offset}, not {known:?}"
                );
            }
            None => {
                ensure!(offset == self.committed_end(), "{node} commits {offset} over a gap");
                self.committed.push(record);
            }
        }
        Ok(())
    }

    /// I2, I10 and KIP-966: every member of the controller's ISR, and everybody who is eligible, has all that is committed.
    pub fn members(
        &self,
        members: &[NodeId],
        durability: Durability,
        disks: &BTreeMap<NodeId, &Disk>,
    ) -> Checked {
        for node in members.iter().filter(|node| !self.wiped.contains(node)) {
            let disk = disks[node];
            let log = match durability {
                Durability::Synced => &disk.stable,
                Durability::Relaxed => &disk.written,
            };
            ensure!(
                log.end() >= self.committed_end(),
                "I2: {node} is in sync, has {}..{}, but all below {} is committed",
                log.start(),
                log.end(),
                self.committed_end()
            );
            self.agrees(*node, log, self.committed_end().get().saturating_sub(3))?;
        }
        Ok(())
    }

    /// I5: what the leader counts for a member of the ISR is in that member's log, as the leader has it.
    pub fn counted(&self, member: NodeId, counted: Offset, leader: &LogImage, log: &LogImage) -> Checked {
        ensure!(
            log.end() >= counted,
            "I5: {member} counts for all below {counted}, but ends at {}",
            log.end()
        );
        let Some(last) = counted.get().checked_sub(1).map(Offset::new) else { return Ok(()) };
        let both = leader.get(last).zip(log.get(last));
        ensure!(
            both.is_none_or(|(one, other)| one == other),
            "I5: {member} counts for all below {counted}, but there the records are {both:?}"
        );
        Ok(())
    }

    fn agrees(&self, node: NodeId, log: &LogImage, from: u64) -> Checked {
        for offset in from..self.committed_end().get() {
            let record = log.get(Offset::new(offset));
            let known = self.committed[offset as usize];
            let same = record.is_none_or(|record| record == known);
            ensure!(same, "I2: {node} has {record:?} at {offset}, but {known:?} is committed");
        }
        Ok(())
    }

    /// All of a log below its high watermark, and I8.
    pub fn whole_log(
        &self,
        node: NodeId,
        high_watermark: Offset,
        disk: &Disk,
        believed: &vltava_model::epochs::LeaderEpochs,
    ) -> Checked {
        for offset in disk.written.start().get()..high_watermark.get() {
            let (record, known) =
                (disk.written.get(Offset::new(offset)), self.committed.get(offset as usize));
            ensure!(
                record.as_ref() == known,
                "I2: {node} shows {record:?} at {offset}, but {known:?} is committed"
            );
        }
        let logged = disk.written.epochs();
        ensure!(logged == believed, "I8: {node} believes {believed:?}, the log has {logged:?}");
        Ok(())
    }

    /// I1, log matching: where two logs hold the same record, all below is the same.
    pub fn matching(&self, one: &LogImage, other: &LogImage) -> Checked {
        let (start, end) = (one.start().max(other.start()).get(), one.end().min(other.end()).get());
        let at = |offset: u64| (one.get(Offset::new(offset)), other.get(Offset::new(offset)));
        let shared = (start..end).rev().find(|offset| at(*offset).0 == at(*offset).1);
        for offset in start..shared.unwrap_or(start) {
            let (one, other) = at(offset);
            ensure!(one == other, "I1: {one:?} and {other:?} at {offset} below a shared record");
        }
        Ok(())
    }

    /// I10: an acknowledged record is, or was until a disk was lost, on the stable storage of enough replicas.
    pub fn acked<'a>(
        &mut self,
        at: Offset,
        value: u64,
        enough: usize,
        logs: impl Iterator<Item = &'a LogImage>,
    ) -> Checked {
        let holds =
            |log: &&LogImage| log.start() > at || log.get(at).is_some_and(|record| record.value == value);
        let holders = logs.filter(holds).count() + self.ghosts.iter().filter(holds).count();
        ensure!(
            holders >= enough,
            "I10: {value} at {at} is acknowledged, but only {holders} replicas have it"
        );
        let known = *self.acked.entry(at).or_insert(value);
        ensure!(known == value, "P2: {known} and {value} are acknowledged at {at}");
        Ok(())
    }

    /// P1: nothing that was acknowledged is missing in the end.
    pub fn nothing_is_lost(&self, log: &LogImage) -> Checked {
        for (offset, value) in self.acked.range(log.start()..) {
            let found = log.get(*offset).map(|record| record.value);
            ensure!(found == Some(*value), "P1: {value} was acknowledged at {offset}, where {found:?} is");
        }
        self.agrees(NodeId::ZERO, log, log.start().get())
    }
}
