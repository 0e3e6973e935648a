//! What must hold between what producers were told and what can be read: the checker, as a pure function.
//!
//! Every acknowledged record is there exactly once, at the offset that was acknowledged; a record of unknown outcome is
//! there at most once; each producer's records keep their order; offsets have no gaps; and nothing else is there.
//! Knows no network and no process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Names one record among all that any test ever wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordId {
    /// Different for every load.
    pub run: u64,
    /// Which of its producers.
    pub producer: u32,
    /// Counts the producer's records from 0.
    pub seq: u64,
}

impl RecordId {
    /// A record's value: its name, filled up to `size` bytes with what depends on the name.
    pub fn value(self, size: usize) -> Vec<u8> {
        let mut value = format!("{self} ").into_bytes();
        let fill = self.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.producer);
        let fill = fill.to_be_bytes();
        for at in value.len()..size {
            value.push(b'a' + fill[at % fill.len()] % 26);
        }
        value
    }

    /// Reads a value back; `None` when it is not, byte for byte, what [`Self::value`] made.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split(' ').next()?.split('/');
        let run = u64::from_str_radix(parts.next()?, 16).ok()?;
        let producer = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse().ok()?;
        let id = Self { run, producer, seq };
        (id.value(value.len()) == value).then_some(id)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}/{}", self.run, self.producer, self.seq)
    }
}

/// What a producer was told about a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It lies there.
    Acked {
        /// At this offset, where that was told.
        offset: Option<u64>,
    },
    /// It may have been written.
    Unknown(String),
    /// It was not written, for certain.
    Failed(String),
}

/// One record that a producer was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Which.
    pub id: RecordId,
    /// For which partition.
    pub partition: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A partition as it was read, from its log start to its end: offsets and records, `None` for bytes that no test wrote.
pub type Read = Vec<(u64, Option<RecordId>)>;

/// What was found where all is well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Acknowledged records, each found once.
    pub acked: usize,
    /// Records of unknown outcome that were found.
    pub unknown_found: usize,
    /// Records of unknown outcome that were not.
    pub unknown_absent: usize,
    /// Records refused, and not found.
    pub failed: usize,
}

/// How many violations are told in full.
const TOLD: usize = 20;

/// Compares attempts with what was read.
///
/// # Errors
/// All violations in words, the first of them in full.
pub fn check(attempts: &[Attempt], read: &BTreeMap<u32, Read>) -> Result<Verdict, String> {
    let mut wrong = Vec::new();
    let mut found: HashMap<RecordId, (u32, u64)> = HashMap::new();
    for (&partition, records) in read {
        look_at_partition(partition, records, &mut found, &mut wrong);
    }
    let mut verdict = Verdict::default();
    for attempt in attempts {
        let at = found.remove(&attempt.id);
        match (&attempt.outcome, at) {
            (Outcome::Acked { offset }, Some((partition, at)))
                if partition == attempt.partition && offset.is_none_or(|offset| offset == at) =>
            {
                verdict.acked += 1
            }
            (Outcome::Acked { offset }, Some((partition, at))) => wrong.push(format!(
                "{} was acknowledged at {}@{offset:?} and lies at {partition}@{at}",
                attempt.id, attempt.partition
            )),
            (Outcome::Acked { offset }, None) => {
                wrong.push(format!(
                    "LOST: {} was acknowledged at {}@{offset:?}",
                    attempt.id, attempt.partition
                ));
            }
            (Outcome::Unknown(_), Some((partition, _))) if partition == attempt.partition => {
                verdict.unknown_found += 1
            }
            (Outcome::Unknown(_), None) => verdict.unknown_absent += 1,
            (Outcome::Failed(_), None) => verdict.failed += 1,
            (outcome, Some((partition, at))) => {
                wrong.push(format!("{} has outcome {outcome:?} and lies at {partition}@{at}", attempt.id));
            }
        }
    }
    wrong.extend(found.iter().map(|(id, at)| format!("nobody wrote {id}, at {at:?}")));
    if wrong.is_empty() { Ok(verdict) } else { Err(tell(&wrong)) }
}

fn look_at_partition(
    partition: u32,
    records: &Read,
    found: &mut HashMap<RecordId, (u32, u64)>,
    wrong: &mut Vec<String>,
) {
    let mut expected = records.first().map_or(0, |(offset, _)| *offset);
    let mut last: HashMap<(u64, u32), u64> = HashMap::new();
    for &(offset, id) in records {
        if offset != expected {
            wrong.push(format!("partition {partition}: offset {offset} comes where {expected} should"));
        }
        expected = offset + 1;
        let Some(id) = id else {
            wrong.push(format!("partition {partition}: offset {offset} holds bytes that no test wrote"));
            continue;
        };
        if let Some((other, at)) = found.insert(id, (partition, offset)) {
            wrong.push(format!("TWICE: {id} lies at {other}@{at} and at {partition}@{offset}"));
        } else if let Some(before) = last.insert((id.run, id.producer), id.seq)
            && before > id.seq
        {
            wrong.push(format!("ORDER: {id} at {partition}@{offset} comes behind the producer's {before}"));
        }
    }
}

fn tell(wrong: &[String]) -> String {
    let mut text = format!("{} violations\n", wrong.len());
    text.push_str(&wrong[..wrong.len().min(TOLD)].join("\n"));
    text
}

/// Checks that what one consumer saw while the load ran is what lies there at the end: it never saw a record that was
/// not committed, never went back, never skipped.
///
/// # Errors
/// The first difference, in words.
pub fn check_watched(watched: &BTreeMap<u32, Read>, read: &BTreeMap<u32, Read>) -> Result<usize, String> {
    let mut seen = 0;
    for (partition, watched) in watched {
        let read = &read[partition];
        if let Some(at) = (0..watched.len()).find(|&at| read.get(at) != Some(&watched[at])) {
            return Err(format!(
                "partition {partition}: a consumer saw {:?} where {:?} lies at the end",
                watched[at],
                read.get(at)
            ));
        }
        seen += watched.len();
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> RecordId {
        RecordId { run: 7, producer: 1, seq }
    }

    fn acked(seq: u64, offset: u64) -> Attempt {
        Attempt { id: id(seq), partition: 0, outcome: Outcome::Acked { offset: Some(offset) } }
    }

    fn said(attempts: &[Attempt], read: Read) -> String {
        check(attempts, &BTreeMap::from([(0, read)])).unwrap_err()
    }

    #[test]
    fn a_value_names_its_record_and_any_changed_byte_is_noticed() {
        let value = id(12_345).value(100);
        assert_eq!(value.len(), 100);
        assert_eq!(RecordId::parse(&value), Some(id(12_345)));
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert_ne!(RecordId::parse(&damaged), Some(id(12_345)), "byte {at}");
        }
    }

    #[test]
    fn a_history_that_is_right_is_counted() {
        let unknown = |seq| Attempt { id: id(seq), partition: 0, outcome: Outcome::Unknown(String::new()) };
        let failed = Attempt { id: id(4), partition: 0, outcome: Outcome::Failed(String::new()) };
        let attempts = [acked(0, 0), acked(1, 1), unknown(2), unknown(3), failed];
        let read = BTreeMap::from([(0, vec![(0, Some(id(0))), (1, Some(id(1))), (2, Some(id(3)))])]);
        let verdict = check(&attempts, &read).unwrap();
        assert_eq!(verdict, Verdict { acked: 2, unknown_found: 1, unknown_absent: 1, failed: 1 });
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(said(&[acked(0, 0)], vec![]).contains("LOST"));
        assert!(said(&[acked(0, 1)], vec![(0, Some(id(0)))]).contains("lies at 0@0"));
        assert!(said(&[acked(0, 0)], vec![(0, Some(id(0))), (1, Some(id(0)))]).contains("TWICE"));
        let swapped = vec![(0, Some(id(1))), (1, Some(id(0)))];
        assert!(said(&[acked(0, 1), acked(1, 0)], swapped).contains("ORDER"));
        assert!(said(&[], vec![(0, Some(id(0)))]).contains("nobody wrote"));
        assert!(said(&[acked(0, 0)], vec![(0, Some(id(0))), (1, None)]).contains("no test wrote"));
        assert!(
            said(&[acked(0, 0), acked(1, 2)], vec![(0, Some(id(0))), (2, Some(id(1)))]).contains("should")
        );
        let failed = Attempt { id: id(0), partition: 0, outcome: Outcome::Failed(String::new()) };
        assert!(said(&[failed], vec![(0, Some(id(0)))]).contains("has outcome"));
    }

    #[test]
    fn a_consumer_that_saw_another_record_is_told() {
        let read = BTreeMap::from([(0, vec![(0, Some(id(0))), (1, Some(id(1)))])]);
        assert_eq!(check_watched(&BTreeMap::from([(0, vec![(0, Some(id(0)))])]), &read), Ok(1));
        assert!(check_watched(&BTreeMap::from([(0, vec![(0, Some(id(5)))])]), &read).is_err());
        let beyond = vec![(0, Some(id(0))), (1, Some(id(1))), (2, Some(id(2)))];
        assert!(check_watched(&BTreeMap::from([(0, beyond)]), &read).is_err());
    }
}
