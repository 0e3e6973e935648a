//! The files in a log's directory, by what their names say.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use vltava_model::Offset;

use crate::log::check::{self, CheckSeed};
use crate::log::cuts::Cuts;
use crate::log::home::{FileKind, Home};
use crate::log::segment::{Segment, remove_files};

/// What lies in a log's directory.
pub(crate) struct Inventory {
    /// The bases of all segments, ascending.
    pub bases: Vec<Offset>,
    /// The offsets of all producer snapshots, ascending.
    pub snapshots: Vec<Offset>,
    /// Side files and indexes.
    others: BTreeSet<(Offset, &'static str)>,
}

impl Inventory {
    pub(crate) fn of(home: &Home) -> io::Result<Self> {
        let (mut bases, mut snapshots, mut others) = (Vec::new(), Vec::new(), BTreeSet::new());
        for name in home.storage.list(&home.dir)? {
            match FileKind::parse(&name) {
                Some((base, FileKind::Log)) => bases.push(base),
                Some((offset, FileKind::Snapshot)) => snapshots.push(offset),
                Some((base, kind)) => {
                    others.insert((base, kind.suffix()));
                }
                None => {}
            }
        }
        bases.sort_unstable();
        snapshots.sort_unstable();
        Ok(Self { bases, snapshots, others })
    }

    /// Removes all segments and snapshots, the last ones first.
    pub(crate) fn remove_all(&mut self, home: &Home) -> io::Result<()> {
        for base in self.bases.drain(..).rev() {
            super::remove_segment(home, base)?;
        }
        for offset in self.snapshots.drain(..) {
            home.storage.remove(&home.path(offset, FileKind::Snapshot))?;
        }
        Ok(())
    }

    /// Whether there are segments wholly below the log's start.
    pub(crate) fn has_below(&self, log_start: Offset) -> bool {
        self.bases.get(1).is_some_and(|second| *second <= log_start)
    }

    /// Removes the segments that lie wholly below the log's start: a deletion was interrupted.
    pub(crate) fn remove_below(&mut self, home: &Home, log_start: Offset) -> io::Result<()> {
        let keep_from = self.bases.partition_point(|base| *base <= log_start).saturating_sub(1);
        for base in self.bases.drain(..keep_from) {
            remove_files(home, base)?;
        }
        Ok(())
    }

    /// What the side file of the last segment says of where the log was cut. Where that was never written whole, the
    /// one before knows as much. One behind it, whose segment is gone, may be all that is left of the last segment, or of one
    /// that was cut off: what it knows besides is true as well.
    pub(crate) fn last_cuts(&self, home: &Home) -> io::Result<Cuts> {
        let last = self.bases.last().copied();
        let mut known = Cuts::default();
        let sides = self.others.iter().filter(|(_, suffix)| *suffix == FileKind::Check.suffix());
        for base in sides.map(|(base, _)| *base).filter(|base| Some(*base) > last) {
            known = known.merge(&cuts_of(home, base)?.unwrap_or_default());
        }
        for base in self.bases.iter().rev().filter(|base| self.has(**base, FileKind::Check)) {
            if let Some(cuts) = cuts_of(home, *base)? {
                return Ok(known.merge(&cuts));
            }
        }
        Ok(known)
    }

    fn has(&self, base: Offset, kind: FileKind) -> bool {
        self.others.contains(&(base, kind.suffix()))
    }

    /// Removes what was left over behind `scanned_from`: files that belong to no segment, indexes of the active segment,
    /// and snapshots, which may be of records that are gone. What lies before it belongs to damage, if to no segment.
    pub(crate) fn remove_left_over(
        &mut self,
        home: &Home,
        segments: &[Arc<Segment>],
        scanned_from: Offset,
    ) -> io::Result<()> {
        let active = segments.last().map(|segment| segment.base());
        for (base, suffix) in &self.others {
            let is_known = segments.binary_search_by_key(base, |segment| segment.base()).is_ok();
            let is_index = *suffix != FileKind::Check.suffix();
            if (!is_known && *base >= scanned_from) || (is_index && Some(*base) == active) {
                match home.storage.remove(&home.dir.join(format!("{:020}{suffix}", base.get()))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        let keep = self.snapshots.partition_point(|offset| *offset <= scanned_from);
        for offset in self.snapshots.drain(keep..) {
            home.storage.remove(&home.path(offset, FileKind::Snapshot))?;
        }
        Ok(())
    }
}

/// What a segment's side file notes, if it is whole.
fn cuts_of(home: &Home, base: Offset) -> io::Result<Option<Cuts>> {
    let file = home.storage.open(&home.path(base, FileKind::Check))?;
    let mut bytes = [0u8; check::NOTE_BYTES];
    let read = file.read_at(check::HEADER_BYTES as u64, &mut bytes)?;
    Ok(check::decode_cuts(CheckSeed::new(home.partition, base), &bytes[..read]))
}
