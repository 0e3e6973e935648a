//! One file of a disk that can lose what was not synced: what programs see now, and what a power cut leaves.
//!
//! The backing file always holds what programs see. For every block that was changed since the last sync the content that
//! is on the platter is kept beside it, so that a cut can put it back: all of it, or block by block and sector by sector as
//! chance has it. Knows neither names nor directories.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// What is tracked apart, as page caches do.
pub const BLOCK: u64 = 4096;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How much a power cut forgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Everything that was not synced.
    Everything,
    /// Each unsynced block may be on the platter, or not, or torn between sectors.
    Torn,
}

/// Whether the next sync writes a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It does.
    Dirty,
    /// A sync of it failed, after which the kernel calls the page clean: no later sync writes it, until it is changed again.
    Forgotten,
}

struct Block {
    /// What is on the platter; shorter where the file ended within it, empty where it ended before.
    platter: Vec<u8>,
    fate: Fate,
}

/// See the module.
pub struct LossyFile {
    backing: File,
    size: u64,
    platter_size: u64,
    changed: BTreeMap<u64, Block>,
}

impl LossyFile {
    /// An empty file over an empty backing file.
    pub fn new(backing: File) -> Self {
        Self { backing, size: 0, platter_size: 0, changed: BTreeMap::new() }
    }

    /// Its length as programs see it, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes at `offset`: fewer than asked for at the end.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(there)];
        let got = read_up_to(&self.backing, &mut bytes, offset)?;
        // What was never written within the file reads as zeros.
        bytes[got..].fill(0);
        Ok(bytes)
    }

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset + data.len() as u64;
        self.remember(offset, end)?;
        self.backing.write_all_at(data, offset)?;
        self.size = self.size.max(end);
        Ok(())
    }

    /// Cuts or extends it, with zeros.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn set_size(&mut self, size: u64) -> io::Result<()> {
        self.remember(size.min(self.size), self.size.max(self.platter_size))?;
        self.backing.set_len(size)?;
        self.size = size;
        Ok(())
    }

    /// Keeps what the platter has of the blocks in `from..to`, which are about to change.
    fn remember(&mut self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        for index in from / BLOCK..to.div_ceil(BLOCK) {
            if let Some(block) = self.changed.get_mut(&index) {
                block.fate = Fate::Dirty;
                continue;
            }
            let start = index * BLOCK;
            // Unchanged since the last sync: what programs see is what the platter has.
            let len = self.platter_size.min(self.size).saturating_sub(start).min(BLOCK);
            let mut platter = vec![0; usize::try_from(len).unwrap_or(0)];
            let got = read_up_to(&self.backing, &mut platter, start)?;
            platter[got..].fill(0);
            self.changed.insert(index, Block { platter, fate: Fate::Dirty });
        }
        Ok(())
    }

    /// All changes reach the platter.
    pub fn sync(&mut self) {
        self.changed.retain(|_, block| block.fate == Fate::Forgotten);
        self.platter_size = self.size;
    }

    /// A sync fails: its changes do not reach the platter, and no later sync of the same pages writes them.
    pub fn fail_sync(&mut self) {
        for block in self.changed.values_mut() {
            block.fate = Fate::Forgotten;
        }
    }

    /// Bytes that a cut could forget.
    pub fn unsynced(&self) -> u64 {
        self.changed.len() as u64 * BLOCK
    }

    /// The power goes: what programs see from here on is what the platter has.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn cut(&mut self, loss: Loss, rng: &mut StdRng) -> io::Result<()> {
        let size = match loss {
            Loss::Torn if self.size != self.platter_size && rng.random_bool(0.5) => self.size,
            _ => self.platter_size,
        };
        let mut blocks = Vec::new();
        for (index, block) in &self.changed {
            let now = self.read(index * BLOCK, BLOCK as usize)?;
            let torn = loss == Loss::Torn && block.fate == Fate::Dirty;
            blocks.push((
                index * BLOCK,
                if torn { tear(&block.platter, &now, rng) } else { block.platter.clone() },
            ));
        }
        for (start, mut content) in blocks {
            content.resize(BLOCK as usize, 0);
            self.backing.write_all_at(&content, start)?;
        }
        self.backing.set_len(size)?;
        self.size = size;
        self.platter_size = size;
        self.changed.clear();
        Ok(())
    }

    /// Turns one bit of what is on the platter, as age does. Returns what the byte is then; `None` where nothing is synced.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn flip_bit(&mut self, at: u64, bit: u32) -> io::Result<Option<u8>> {
        if self.changed.contains_key(&(at / BLOCK)) || at >= self.platter_size {
            return Ok(None);
        }
        let Some(byte) = self.byte(at)? else { return Ok(None) };
        let flipped = byte ^ (1 << (bit % 8));
        self.backing.write_all_at(&[flipped], at)?;
        Ok(Some(flipped))
    }

    /// One byte as programs see it.
    ///
    /// # Errors
    /// When the backing file fails.
    pub fn byte(&self, at: u64) -> io::Result<Option<u8>> {
        Ok(self.read(at, 1)?.first().copied())
    }
}

/// A block as a cut may leave it: old, new, or a mixture of sectors.
fn tear(platter: &[u8], now: &[u8], rng: &mut StdRng) -> Vec<u8> {
    match rng.next_u32() % 4 {
        0 => return platter.to_vec(),
        1 => return now.to_vec(),
        _ => {}
    }
    let mut torn = platter.to_vec();
    torn.resize(platter.len().max(now.len()), 0);
    for start in (0..now.len()).step_by(SECTOR) {
        if rng.random_bool(0.5) {
            let end = now.len().min(start + SECTOR);
            torn[start..end].copy_from_slice(&now[start..end]);
        }
    }
    torn
}

fn read_up_to(file: &File, buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset)? {
            0 => break,
            some => {
                got += some;
                offset += some as u64;
            }
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn file() -> LossyFile {
        LossyFile::new(tempfile::tempfile().expect("a temporary file can be made"))
    }

    fn all(file: &LossyFile) -> Vec<u8> {
        file.read(0, usize::MAX).expect("it can be read")
    }

    fn cut(file: &mut LossyFile, loss: Loss, seed: u64) {
        file.cut(loss, &mut StdRng::seed_from_u64(seed)).expect("it can be cut");
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_does_not() {
        let mut file = file();
        file.write(0, b"synced").unwrap();
        file.sync();
        file.write(3, b"lost and longer").unwrap();
        assert_eq!(all(&file), b"synlost and longer");
        cut(&mut file, Loss::Everything, 1);
        assert_eq!(all(&file), b"synced");
        file.set_size(2).unwrap();
        cut(&mut file, Loss::Everything, 1);
        assert_eq!(all(&file), b"synced", "a truncation that was not synced comes undone");
        file.set_size(2).unwrap();
        file.write(2, b"new").unwrap();
        file.sync();
        cut(&mut file, Loss::Everything, 1);
        assert_eq!(all(&file), b"synew");
    }

    #[test]
    fn a_failed_sync_loses_its_pages_though_the_next_one_succeeds() {
        let mut file = file();
        file.write(0, b"one").unwrap();
        file.sync();
        file.write(0, b"two").unwrap();
        file.fail_sync();
        file.sync();
        assert_eq!(all(&file), b"two", "the page cache still has it");
        cut(&mut file, Loss::Everything, 1);
        assert_eq!(all(&file), b"one");
        file.write(0, b"two").unwrap();
        file.fail_sync();
        file.write(0, b"new").unwrap();
        file.sync();
        cut(&mut file, Loss::Torn, 1);
        assert_eq!(all(&file), b"new", "a page that is written again is synced again");
    }

    /// Against a model that is too simple to be wrong: two byte vectors.
    #[test]
    fn random_writes_truncations_syncs_and_cuts_agree_with_a_plain_model() {
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut file, mut now, mut platter) = (file(), Vec::new(), Vec::new());
            for _ in 0..80 {
                match rng.next_u32() % 10 {
                    0 => {
                        file.sync();
                        platter.clone_from(&now);
                    }
                    1 => {
                        cut(&mut file, Loss::Everything, seed);
                        now.clone_from(&platter);
                    }
                    2 => {
                        let size = rng.random_range(0..20_000);
                        file.set_size(size).unwrap();
                        now.resize(size as usize, 0);
                    }
                    _ => {
                        let at = rng.random_range(0..16_000);
                        let data = vec![rng.random(); rng.random_range(0..6_000)];
                        file.write(at, &data).unwrap();
                        let (at, end) = (at as usize, at as usize + data.len());
                        if !data.is_empty() {
                            now.resize(now.len().max(end), 0);
                            now[at..end].copy_from_slice(&data);
                        }
                    }
                }
                assert_eq!(all(&file), now, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_torn_cut_leaves_of_each_sector_the_old_or_the_new() {
        let mut mixed = 0;
        for seed in 0..50 {
            let mut file = file();
            file.write(0, &[1; 8192]).unwrap();
            file.sync();
            file.write(0, &[2; 8192]).unwrap();
            cut(&mut file, Loss::Torn, seed);
            let bytes = all(&file);
            assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            mixed += usize::from(bytes.contains(&1) && bytes.contains(&2));
        }
        assert!(mixed > 10, "only {mixed} of 50 cuts tore anything");
    }
}
