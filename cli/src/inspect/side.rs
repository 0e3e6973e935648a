//! Whose a segment's files are, and what its `.check` file says: the checksums that a batch's own leaves out.
//!
//! The layouts are those of docs/formats.md. A segment's checksums continue from the identity of its partition and its
//! base offset, so that a file in the wrong place is noticed.

use std::path::Path;

use vltava_model::batch::BatchHeader;
use vltava_model::{Offset, PartitionIndex, TopicId, TopicPartition};

use super::Fields;

const MAGIC: &[u8; 4] = b"VCHK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const ENTRIES_AT: usize = HEADER_BYTES + 4 * 12 + 4;
const ENTRY_BYTES: usize = 24;

/// Where a segment belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// Its partition.
    pub partition: TopicPartition,
    /// The offset in its name.
    pub base: Offset,
}

impl Home {
    /// Reads the names of a file and its directory, `<topic id>-<partition>/<base>.<suffix>`.
    pub fn of(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let dir = path.parent()?.file_name()?.to_str()?;
        let (topic, partition) = dir.rsplit_once('-')?;
        let topic: TopicId = topic.parse().ok()?;
        let partition = PartitionIndex::new(partition.parse().ok()?);
        let base = path.file_name()?.to_str()?.get(..20)?.parse().ok().map(Offset::new)?;
        Some(Self { partition: TopicPartition::new(topic, partition), base })
    }

    /// A checksum of `bytes` that holds for this segment only.
    pub fn sum(&self, bytes: &[u8]) -> u32 {
        let sum = crc32c::crc32c(&self.partition.topic.to_bytes());
        let sum = crc32c::crc32c_append(sum, &self.partition.partition.get().to_be_bytes());
        let sum = crc32c::crc32c_append(sum, &self.base.get().to_be_bytes());
        crc32c::crc32c_append(sum, bytes)
    }

    /// The checksum over what identifies a batch and its own checksum leaves out.
    pub fn batch_sum(&self, header: &BatchHeader) -> u32 {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&header.base_offset.get().to_be_bytes());
        bytes.extend_from_slice(&header.leader_epoch.map_or(u32::MAX, |epoch| epoch.get()).to_be_bytes());
        bytes.extend_from_slice(&(header.length as u32).to_be_bytes());
        bytes.extend_from_slice(&header.crc.to_be_bytes());
        self.sum(&bytes)
    }
}

/// One batch, as the check file knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckEntry {
    /// The batch's last offset.
    pub last_offset: Offset,
    /// Where it begins in the `.log`.
    pub position: u32,
    /// Its largest timestamp.
    pub max_timestamp: i64,
    /// [`Home::batch_sum`] of it.
    pub batch_sum: u32,
}

/// What a check file holds.
#[derive(Debug)]
pub struct CheckFile {
    /// When the segment was created, in milliseconds since 1970.
    pub created_ms: i64,
    /// The entries up to the first that is damaged.
    pub entries: Vec<CheckEntry>,
    /// What is wrong with it.
    pub damage: Option<String>,
}

impl CheckFile {
    /// Reads a check file; the error says why it is none, or another segment's.
    pub fn parse(home: Home, bytes: &[u8]) -> Result<Self, String> {
        let header = bytes.get(..HEADER_BYTES).ok_or("it is too short for its header")?;
        let sum = header[44..].try_into().map(u32::from_be_bytes).unwrap_or_default();
        let mut fields = Fields(header);
        if fields.take() != Some(*MAGIC) {
            return Err("it does not begin with VCHK".into());
        }
        if crc32c::crc32c(&header[..44]) != sum {
            return Err("the checksum of its header does not match".into());
        }
        match fields.u32() {
            Some(VERSION) => {}
            version => return Err(format!("it has version {version:?}, which this release does not know")),
        }
        let topic = fields.take().map(u128::from_be_bytes).map(TopicId::new).unwrap_or_default();
        let partition = TopicPartition::new(topic, PartitionIndex::new(fields.u32().unwrap_or_default()));
        let base = Offset::new(fields.u64().unwrap_or_default());
        if (Home { partition, base }) != home {
            return Err(format!("it belongs to {partition}, base offset {base}"));
        }
        let created_ms = fields.i64().unwrap_or_default();
        let (mut entries, mut damage) = (Vec::new(), None);
        for (ordinal, chunk) in bytes.get(ENTRIES_AT..).unwrap_or_default().chunks(ENTRY_BYTES).enumerate() {
            match entry(home, ordinal, chunk) {
                Some(entry) => entries.push(entry),
                None => {
                    damage = Some(format!("entry {ordinal} does not match its checksum"));
                    break;
                }
            }
        }
        Ok(Self { created_ms, entries, damage })
    }
}

fn entry(home: Home, ordinal: usize, bytes: &[u8]) -> Option<CheckEntry> {
    let mut fields = Fields(bytes);
    let (last, position) = (fields.u32()?, fields.u32()?);
    let entry = CheckEntry {
        last_offset: home.base.checked_add(last.into())?,
        position,
        max_timestamp: fields.i64()?,
        batch_sum: fields.u32()?,
    };
    let ordinal = u32::try_from(ordinal).ok()?;
    let sum = crc32c::crc32c_append(home.sum(&ordinal.to_be_bytes()), &bytes[..20]);
    (fields.u32()? == sum).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_names_say_whose_it_is() {
        let topic = "0123456789abcdef0123456789abcdef";
        let home = Home::of(Path::new(&format!("/data/{topic}-3/00000000000000000042.log"))).unwrap();
        assert_eq!(home.base, Offset::new(42));
        assert_eq!(home.partition.to_string(), format!("{topic}-3"));
        assert_eq!(Home::of(Path::new("/data/orders-3/00000000000000000042.log")), None);
        assert_eq!(Home::of(Path::new(&format!("/data/{topic}-3/log-state"))), None);
    }

    #[test]
    fn rubbish_is_no_check_file() {
        let home = Home {
            partition: TopicPartition::new(TopicId::new(1), PartitionIndex::new(0)),
            base: Offset::ZERO,
        };
        for bytes in [&b""[..], &[0; 200], b"VCHK"] {
            assert!(CheckFile::parse(home, bytes).is_err());
        }
    }
}
