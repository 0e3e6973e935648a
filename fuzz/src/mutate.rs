//! Seeded changes of inputs, for the replay with every test run: a small part of what libFuzzer does.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Inputs are not made longer than this.
const INPUT_MAX: usize = 16 << 10;

/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// Another input from one or two; the same from the same seed.
pub fn mutated(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..6) {
        change(&mut bytes, other, &mut random);
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let room = bytes.len() - at;
    match random.random_range(0..7) {
        0 if room > 0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 if room > 0 => bytes[at] = random.random(),
        2 => bytes.insert(at, random.random()),
        3 if room > 0 => {
            let count = random.random_range(1..=room.min(16));
            bytes.drain(at..at + count);
        }
        4 => {
            let edge = EDGES[random.random_range(0..EDGES.len())];
            let width = [1, 2, 4, 8][random.random_range(0..4)];
            let raw = if random.random_bool(0.5) {
                edge.to_be_bytes()[8 - width..].to_vec()
            } else {
                edge.to_le_bytes()[..width].to_vec()
            };
            let count = width.min(room);
            bytes[at..at + count].copy_from_slice(&raw[..count]);
        }
        5 => bytes.truncate(at),
        _ if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let count = random.random_range(1..=(other.len() - from).min(64));
            bytes.splice(at..at, other[from..from + count].iter().copied());
        }
        _ => {}
    }
}
