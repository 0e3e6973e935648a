//! I1, I2, I12: replicas hold equal batches wherever their logs must agree. Reads the files on the disks of brokers that run,
//! as their processes see them, and believes nothing but the batches themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use vltava_broker::shard::shared::Standing;
use vltava_model::batch::{Batch, BatchHeader};
use vltava_model::{LeaderEpoch, NodeId, Offset, TopicPartition};
use vltava_storage::MemoryStorage;

use super::{Trust, Verdict, Violation};
use crate::machine::Machine;
use crate::programs;

/// How much logs must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// In what is committed, and below the last batch that two of them have.
    Committed,
    /// To their ends: nothing is under way.
    Whole,
}

/// What identifies a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    base: Offset,
    end: Offset,
    epoch: Option<LeaderEpoch>,
    crc: u32,
}

/// One replica.
struct Replica {
    node: NodeId,
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
    batches: Vec<Place>,
}

/// See [`super::Watch::compare_logs`].
pub fn compare(machines: &[Machine], agreement: Agreement) -> Verdict {
    let mut replicas: BTreeMap<TopicPartition, Vec<Replica>> = BTreeMap::new();
    let whole = |machine: &&Machine| machine.is_up() && Trust::of(machine) == Trust::Whole;
    for machine in machines.iter().filter(whole) {
        gather(machine, &mut replicas)?;
    }
    for (of, replicas) in &replicas {
        for replica in replicas {
            replica
                .is_whole(agreement)
                .map_err(|what| format!("I12: {of} on broker {}: {what}", replica.node))?;
        }
        for (at, one) in replicas.iter().enumerate() {
            for other in &replicas[at + 1..] {
                one.agrees(other, agreement).map_err(|what| {
                    format!("I1, I2: {of} on brokers {} and {}: {what}", one.node, other.node)
                })?;
            }
        }
    }
    Ok(())
}

fn gather(machine: &Machine, replicas: &mut BTreeMap<TopicPartition, Vec<Replica>>) -> Verdict {
    let window = machine.window();
    let Some(broker) = &window.broker else { return Ok(()) };
    let disk = machine.disk.look();
    for handle in broker.partitions().values() {
        let (of, shared) = (handle.partition(), handle.shared());
        if matches!(*shared.standing(), Standing::Offline) {
            continue;
        }
        let mut replica = Replica {
            node: broker.node_id,
            log_start: shared.log_start(),
            high_watermark: shared.high_watermark(),
            log_end: shared.log_end(),
            batches: Vec::new(),
        };
        replica.read(disk, of).map_err(|what| format!("I12: {of} on broker {}: {what}", replica.node))?;
        replicas.entry(of).or_default().push(replica);
    }
    Ok(())
}

impl Replica {
    /// Reads the batches that the process knows of. What lies behind its log end it has not told anybody of.
    fn read(&mut self, disk: &MemoryStorage, of: TopicPartition) -> Result<(), Violation> {
        let dir = PathBuf::from(programs::DATA).join(of.to_string());
        let files = disk.files_in(&dir, |name| name.ends_with(".log"));
        let mut files = files.map_err(|error| error.to_string())?;
        files.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, bytes) in files {
            self.walk(Bytes::from(bytes)).map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(())
    }

    fn walk(&mut self, mut rest: Bytes) -> Result<(), Violation> {
        while let Ok(Some(header)) = BatchHeader::peek(&rest) {
            if header.end_offset() > self.log_end || header.length > rest.len() {
                break;
            }
            let bytes = rest.split_to(header.length);
            let (base, end) = (header.base_offset, header.end_offset());
            // Below the log start files may be on their way out.
            if end <= self.log_start {
                continue;
            }
            Batch::parse(bytes).map_err(|error| format!("the batch at {base}: {error}"))?;
            self.batches.push(Place { base, end, epoch: header.leader_epoch, crc: header.crc });
        }
        Ok(())
    }

    /// Batches follow on each other, up to the watermark at least.
    fn is_whole(&self, agreement: Agreement) -> Result<(), Violation> {
        let mut at = self.batches.first().map_or(self.log_start, |first| first.base.min(self.log_start));
        let mut newest = None;
        for batch in &self.batches {
            if batch.base.max(self.log_start) != at.max(self.log_start) || batch.epoch < newest {
                return Err(format!("{batch:?} follows on {at} of epoch {newest:?}"));
            }
            (at, newest) = (batch.end, batch.epoch);
        }
        let must_reach = match agreement {
            Agreement::Committed => self.high_watermark,
            Agreement::Whole => self.log_end,
        };
        match at >= must_reach {
            true => Ok(()),
            false => Err(format!("its files end at {at}, it must have all up to {must_reach}")),
        }
    }

    /// The batches from an offset on.
    fn from(&self, offset: Offset) -> impl Iterator<Item = &Place> {
        self.batches.iter().filter(move |batch| batch.end > offset)
    }

    fn agrees(&self, other: &Self, agreement: Agreement) -> Result<(), Violation> {
        let start = self.log_start.max(other.log_start);
        let last_common = || {
            let theirs: BTreeMap<_, _> = other.from(start).map(|batch| (batch.base, batch.epoch)).collect();
            let common =
                self.from(start).filter(|batch| theirs.get(&batch.base) == Some(&batch.epoch)).last();
            common.map_or(start, |batch| batch.end)
        };
        let up_to = match agreement {
            Agreement::Whole if self.log_end != other.log_end => {
                return Err(format!("one ends at {}, the other at {}", self.log_end, other.log_end));
            }
            Agreement::Whole => self.log_end,
            Agreement::Committed => self.high_watermark.min(other.high_watermark).max(last_common()),
        };
        let below = |replica: &Self| -> Vec<Place> {
            replica.from(start).take_while(|batch| batch.base < up_to).copied().collect()
        };
        let (one, two) = (below(self), below(other));
        let differs = one.iter().zip(&two).find(|(one, two)| one != two);
        match differs {
            Some((one, two)) => Err(format!("one has {one:?}, the other {two:?}")),
            None if one.len() != two.len() => {
                Err(format!("they have {} and {} batches below {up_to}", one.len(), two.len()))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u32, batches: &[(u64, u64, u32, u32)], high_watermark: u64) -> Replica {
        let place = |(base, end, epoch, crc): &(u64, u64, u32, u32)| Place {
            base: Offset::new(*base),
            end: Offset::new(*end),
            epoch: Some(LeaderEpoch::new(*epoch)),
            crc: *crc,
        };
        let batches: Vec<Place> = batches.iter().map(place).collect();
        Replica {
            node: NodeId::new(node),
            log_start: Offset::ZERO,
            high_watermark: Offset::new(high_watermark),
            log_end: batches.last().map_or(Offset::ZERO, |last| last.end),
            batches,
        }
    }

    #[test]
    fn tails_may_differ_and_what_is_committed_or_below_a_common_batch_may_not() {
        let one = replica(1, &[(0, 3, 1, 7), (3, 5, 1, 8), (5, 6, 2, 9)], 3);
        let agrees = |other: &Replica| one.agrees(other, Agreement::Committed);
        assert_eq!(agrees(&replica(2, &[(0, 3, 1, 7), (3, 6, 3, 1)], 3)), Ok(()));
        assert_eq!(agrees(&replica(2, &[(0, 3, 1, 7)], 3)), Ok(()));
        assert!(agrees(&replica(2, &[(0, 3, 1, 6)], 3)).is_err(), "another batch that is committed");
        assert!(agrees(&replica(2, &[(0, 2, 1, 7)], 2)).is_err(), "another batch at the same place");
        assert!(
            agrees(&replica(2, &[(0, 3, 1, 7), (3, 5, 1, 1), (5, 6, 2, 9)], 3)).is_err(),
            "below a common one"
        );
        assert!(agrees(&replica(2, &[(0, 3, 1, 7), (5, 6, 2, 9)], 3)).is_err(), "one is missing");
        assert!(one.agrees(&replica(2, &[(0, 3, 1, 7)], 3), Agreement::Whole).is_err());
        assert_eq!(
            one.agrees(&replica(2, &[(0, 3, 1, 7), (3, 5, 1, 8), (5, 6, 2, 9)], 6), Agreement::Whole),
            Ok(())
        );
    }

    #[test]
    fn gaps_older_epochs_and_missing_ends_are_told() {
        let whole = |replica: Replica| replica.is_whole(Agreement::Committed);
        assert_eq!(whole(replica(1, &[(0, 3, 1, 7), (3, 5, 2, 8)], 5)), Ok(()));
        assert!(whole(replica(1, &[(0, 3, 1, 7), (4, 5, 2, 8)], 5)).is_err());
        assert!(whole(replica(1, &[(0, 3, 2, 7), (3, 5, 1, 8)], 5)).is_err());
        assert!(whole(replica(1, &[(0, 3, 2, 7)], 5)).is_err());
    }
}
