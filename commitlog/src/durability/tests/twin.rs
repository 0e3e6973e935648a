//! A log reduced to what the journal must keep safe: cells that know their place, in segment files that are never
//! synced but by the journal. It keeps the rules of the journal's users, and remembers what it was promised.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A cell: offset (8), version (4), checksum of both and of the partition (4).
const CELL_BYTES: u64 = 16;

/// Cells in a segment file.
const SEGMENT_CELLS: u64 = 96;

/// One partition's log.
pub(super) struct Twin {
    index: u32,
    storage: MemoryStorage,
    segments: Vec<Arc<dyn StorageFile>>,
    /// The version of each cell.
    pub cells: Vec<u32>,
    version: u32,
    pub steps: Vec<Step>,
}

/// One change, and when it was begun and done, in operations of the storage.
pub(super) struct Step {
    pub after: Vec<u32>,
    pub issued: usize,
    pub acked: Arc<AtomicUsize>,
}

/// Not yet.
const NEVER: usize = usize::MAX;

fn cell(index: u32, offset: u64, version: u32) -> [u8; CELL_BYTES as usize] {
    let mut bytes = [0; CELL_BYTES as usize];
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[8..12].copy_from_slice(&version.to_be_bytes());
    let crc = crc32c::crc32c_append(index, &bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

impl Twin {
    /// Opens what is on disk, applies the frames, and cuts what is torn.
    pub fn open(storage: &MemoryStorage, index: u32, frames: &[RecoveredFrame]) -> Self {
        let mut twin = Self {
            index,
            storage: storage.clone(),
            segments: Vec::new(),
            cells: Vec::new(),
            version: 0,
            steps: Vec::new(),
        };
        while storage.exists(&twin.path(twin.segments.len())).unwrap() {
            twin.segments.push(storage.open(&twin.path(twin.segments.len())).unwrap());
        }
        for (at, frame) in frames.iter().enumerate() {
            twin.replay(frame, &frames[at + 1..]);
        }
        twin.cells = twin.scan();
        twin.cut(twin.cells.len() as u64);
        twin.version = twin.cells.last().map_or(0, |version| version + 1);
        twin
    }

    fn path(&self, segment: usize) -> PathBuf {
        PathBuf::from(format!("/log/p{}-{segment}", self.index))
    }

    /// The cells that there is room for, before the first short segment.
    fn len(&self) -> u64 {
        let mut len = 0;
        for segment in &self.segments {
            let cells = segment.len().unwrap() / CELL_BYTES;
            len += cells;
            if cells < SEGMENT_CELLS {
                break;
            }
        }
        len
    }

    fn segment_of(&mut self, offset: u64) -> Arc<dyn StorageFile> {
        let at = (offset / SEGMENT_CELLS) as usize;
        while self.segments.len() <= at {
            let file = self.storage.create(&self.path(self.segments.len())).unwrap();
            self.storage.sync_dir(Path::new("/log")).unwrap();
            self.segments.push(file);
        }
        Arc::clone(&self.segments[at])
    }

    fn replay(&mut self, frame: &RecoveredFrame, later: &[RecoveredFrame]) {
        match &frame.body {
            RecoveredBody::Append { base_offset, bytes, .. } => {
                let base = base_offset.get();
                assert!(
                    base <= self.len(),
                    "a hole before {base}: partition {} has {}",
                    self.index,
                    self.len()
                );
                let segment = self.segment_of(base);
                let position = base % SEGMENT_CELLS * CELL_BYTES;
                let mut there = vec![0; bytes.len()];
                if segment.read_exact_at(position, &mut there).is_err() || there != *bytes {
                    self.cut(base);
                }
                segment.write_at(position, bytes).unwrap();
            }
            RecoveredBody::Synced { end_offset } => {
                let truncated = later.iter().filter_map(|later| match later.body {
                    RecoveredBody::Truncate { to } => Some(to),
                    _ => None,
                });
                let end = truncated.fold(*end_offset, Offset::min).get();
                assert!(self.len() >= end, "synced up to {end}, but there are {}", self.len());
            }
            RecoveredBody::Truncate { to } => self.cut(to.get()),
            other => panic!("{other:?}"),
        }
    }

    fn cut(&mut self, to: u64) {
        for (at, segment) in self.segments.iter().enumerate() {
            let cells = to.saturating_sub(at as u64 * SEGMENT_CELLS).min(SEGMENT_CELLS);
            if segment.len().unwrap() > cells * CELL_BYTES {
                segment.set_len(cells * CELL_BYTES).unwrap();
            }
        }
    }

    fn scan(&self) -> Vec<u32> {
        let mut cells = Vec::new();
        for offset in 0.. {
            let Some(segment) = self.segments.get((offset / SEGMENT_CELLS) as usize) else { break };
            let mut bytes = [0; CELL_BYTES as usize];
            let read = segment.read_exact_at(offset % SEGMENT_CELLS * CELL_BYTES, &mut bytes);
            let version = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
            let whole = read.is_ok() && bytes == cell(self.index, offset, version);
            if !whole || cells.last().is_some_and(|last| *last > version) {
                break;
            }
            cells.push(version);
        }
        cells
    }

    /// Makes everything durable that opening found.
    pub fn sync(&self) {
        self.segments.iter().for_each(|segment| segment.sync_data().unwrap());
    }

    /// Writes cells to the segments and gives the entries that make them durable.
    pub fn append(&mut self, count: u64) -> (Vec<JournalEntry>, Done) {
        let issued = self.storage.operations();
        let mut entries = Vec::new();
        let mut base = self.cells.len() as u64;
        let end = base + count;
        while base < end {
            let until = end.min((base / SEGMENT_CELLS + 1) * SEGMENT_CELLS);
            let bytes: Vec<u8> =
                (base..until).flat_map(|offset| cell(self.index, offset, self.version)).collect();
            let segment = self.segment_of(base);
            segment.write_at(base % SEGMENT_CELLS * CELL_BYTES, &bytes).unwrap();
            let body = EntryBody::Append {
                base_offset: Offset::new(base),
                end_offset: Offset::new(until),
                bytes: bytes.into(),
                segment,
            };
            entries.push(entry(self.index, body));
            base = until;
        }
        self.cells.resize(end as usize, self.version);
        (entries, self.step(issued))
    }

    /// Remembers a change; it counts as promised when what is returned is called.
    fn step(&mut self, issued: usize) -> Done {
        let acked = Arc::new(AtomicUsize::new(NEVER));
        self.steps.push(Step { after: self.cells.clone(), issued, acked: Arc::clone(&acked) });
        let storage = self.storage.clone();
        Box::new(move |outcome| {
            if outcome.is_ok() {
                acked.store(storage.operations(), Ordering::SeqCst);
            }
        })
    }

    /// Cuts the log, when nothing of it is under way.
    pub fn truncate(&mut self, to: u64, journal: &Journal) {
        let issued = self.storage.operations();
        commit(journal, vec![entry(self.index, EntryBody::Truncate { to: Offset::new(to) })]).unwrap();
        self.cut(to);
        self.sync();
        self.cells.truncate(to as usize);
        self.version += 1;
        self.step(issued)(Ok(()));
    }

    /// Says what is wrong with `found` after a crash at `operations`; `before` is what the run began with.
    pub fn check(&self, before: &[u32], operations: usize, found: &[u32]) -> Result<(), String> {
        let promised =
            self.steps.iter().take_while(|step| step.acked.load(Ordering::SeqCst) <= operations).count();
        let begun = self.steps.iter().take_while(|step| step.issued <= operations).count().max(promised);
        let state = |steps: usize| if steps == 0 { before } else { &self.steps[steps - 1].after };
        let legal = (promised..=begun).any(|steps| {
            let (from, to) = (state(steps), state((steps + 1).min(begun)));
            let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            found == from || found.len() >= common && (from.starts_with(found) || to.starts_with(found))
        });
        if legal {
            return Ok(());
        }
        Err(format!(
            "partition {}: found {} after {promised} promised and {begun} begun steps, which left {} and {}",
            self.index,
            runs(found),
            runs(state(promised)),
            runs(state(begun))
        ))
    }
}

/// Cells in short: versions and how many of each.
fn runs(cells: &[u32]) -> String {
    let runs = cells.chunk_by(|a, b| a == b).map(|run| format!("{}x v{}", run.len(), run[0]));
    format!("[{}]", runs.collect::<Vec<_>>().join(", "))
}
