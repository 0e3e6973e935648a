//! Which partition a record goes to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use vltava_model::PartitionIndex;

/// Chooses partitions.
pub trait Partitioner: Send + Sync {
    /// The partition for a record of `size` bytes, one of `count` (at least 1).
    fn partition(&self, topic: &str, key: Option<&[u8]>, size: usize, count: u32) -> PartitionIndex;
}

/// Kafka's default: records with a key go by its hash, others stay with one partition until it has got a batch's worth,
/// then go to another (KIP-480, KIP-794).
pub struct Sticky {
    stick_bytes: usize,
    current: Mutex<BTreeMap<String, (PartitionIndex, usize)>>,
}

impl Default for Sticky {
    fn default() -> Self {
        Self::new(16 * 1024)
    }
}

impl Sticky {
    /// Stays with a partition for so many bytes; `batch.size` is a good choice.
    pub fn new(stick_bytes: usize) -> Self {
        Self { stick_bytes, current: Mutex::default() }
    }
}

impl Partitioner for Sticky {
    fn partition(&self, topic: &str, key: Option<&[u8]>, size: usize, count: u32) -> PartitionIndex {
        if let Some(key) = key {
            return by_hash(key, count);
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((partition, given)) = current.get_mut(topic)
            && *given < self.stick_bytes
            && partition.get() < count
        {
            *given += size;
            return *partition;
        }
        let last = current.get(topic).map(|(partition, _)| *partition);
        let mut next = rand::random_range(0..count);
        if count > 1 && last == Some(PartitionIndex::new(next)) {
            next = (next + 1) % count;
        }
        current.insert(topic.to_owned(), (PartitionIndex::new(next), size));
        PartitionIndex::new(next)
    }
}

/// One partition after the other, whatever the key.
#[derive(Default)]
pub struct RoundRobin {
    next: AtomicU32,
}

impl Partitioner for RoundRobin {
    fn partition(&self, _topic: &str, _key: Option<&[u8]>, _size: usize, count: u32) -> PartitionIndex {
        PartitionIndex::new(self.next.fetch_add(1, Ordering::Relaxed) % count)
    }
}

/// Any partition, whatever the key.
pub struct Random;

impl Partitioner for Random {
    fn partition(&self, _topic: &str, _key: Option<&[u8]>, _size: usize, count: u32) -> PartitionIndex {
        PartitionIndex::new(rand::random_range(0..count))
    }
}

/// By the hash of the key, as Kafka's clients do it; records without a key go anywhere.
pub struct KeyHash;

impl Partitioner for KeyHash {
    fn partition(&self, topic: &str, key: Option<&[u8]>, size: usize, count: u32) -> PartitionIndex {
        match key {
            Some(key) => by_hash(key, count),
            None => Random.partition(topic, None, size, count),
        }
    }
}

fn by_hash(key: &[u8], count: u32) -> PartitionIndex {
    PartitionIndex::new((murmur2(key) & 0x7fff_ffff) % count)
}

/// The 32-bit hash that Kafka's Java client puts on keys (MurmurHash2 with its seed).
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kafkas() {
        // Values that Kafka's own UtilsTest holds its hash against.
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn sticky_stays_then_moves() {
        let sticky = Sticky::new(100);
        let first = sticky.partition("t", None, 60, 3);
        assert_eq!(sticky.partition("t", None, 60, 3), first);
        assert_ne!(sticky.partition("t", None, 60, 3), first);
        let keyed = sticky.partition("t", Some(b"k"), 60, 3);
        assert!((0..10).all(|_| sticky.partition("t", Some(b"k"), 60, 3) == keyed));
    }

    #[test]
    fn round_robin_goes_round() {
        let robin = RoundRobin::default();
        let seen: Vec<u32> = (0..6).map(|_| robin.partition("t", None, 1, 3).get()).collect();
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
    }
}
