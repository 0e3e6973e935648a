//! The note of where a log was cut lately, for what still claims otherwise after a crash.
//!
//! A cut is done to the segments at once, but two things may outlive it: a persisted recovery point above it, and
//! journal frames from before it when the frame that tells of it was not written in time. The note, durable before
//! anything is cut, corrects both: nothing above a cut counts as synced, and frames from before the epoch of the cut
//! are void above it. It is forgotten when no such claim can be left. Pure; knows no files.

use vltava_model::{LeaderEpoch, Offset};

/// Cuts that are remembered; further ones displace those between the first and the last.
const REMEMBERED: usize = 4;

const CUT_BYTES: usize = 12;

/// The length of a note, without a checksum.
pub(crate) const CUTS_BYTES: usize = REMEMBERED * CUT_BYTES;

/// One cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// The log's end after it.
    pub at: Offset,
    /// The leader epoch in which it was done: what the journal got in older epochs came before.
    pub epoch: LeaderEpoch,
}

/// The cuts that still matter, oldest first, with offsets ascending: a cut makes those before it that lie higher
/// pointless.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cuts(Vec<Cut>);

impl Cuts {
    pub(crate) fn push(&mut self, cut: Cut) {
        while self.0.pop_if(|before| before.at >= cut.at).is_some() {}
        if self.0.len() == REMEMBERED {
            self.0.remove(1);
        }
        self.0.push(cut);
    }

    /// What two notes know together.
    pub(crate) fn merge(self, other: &Self) -> Self {
        let mut all: Vec<Cut> = self.0.into_iter().chain(other.0.iter().copied()).collect();
        all.sort_by_key(|cut| cut.epoch);
        let mut merged = Self::default();
        all.into_iter().for_each(|cut| merged.push(cut));
        merged
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cut> {
        self.0.iter()
    }

    /// How much of a claim to have synced everything below `claimed` still holds.
    pub(crate) fn limit(&self, claimed: Offset) -> Offset {
        self.0.first().map_or(claimed, |first| claimed.min(first.at))
    }

    pub(crate) fn encode(&self) -> [u8; CUTS_BYTES] {
        let mut bytes = [0u8; CUTS_BYTES];
        for (slot, cut) in bytes.as_chunks_mut::<CUT_BYTES>().0.iter_mut().zip(&self.0) {
            slot[..8].copy_from_slice(&(cut.at.get() + 1).to_be_bytes());
            slot[8..].copy_from_slice(&cut.epoch.get().to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; CUTS_BYTES]) -> Self {
        let cuts =
            bytes.as_chunks::<CUT_BYTES>().0.iter().map_while(|[a, b, c, d, e, f, g, h, epoch @ ..]| {
                let at = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]).checked_sub(1)?;
                Some(Cut { at: Offset::new(at), epoch: LeaderEpoch::new(u32::from_be_bytes(*epoch)) })
            });
        Self(cuts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(list: &[(u64, u32)]) -> Cuts {
        let mut cuts = Cuts::default();
        for (at, epoch) in list {
            cuts.push(Cut { at: Offset::new(*at), epoch: LeaderEpoch::new(*epoch) });
        }
        cuts
    }

    #[test]
    fn a_deeper_cut_replaces_those_before_it() {
        assert_eq!(cuts(&[(50, 1), (80, 2), (60, 3)]), cuts(&[(50, 1), (60, 3)]));
        assert_eq!(cuts(&[(50, 1), (80, 2), (50, 3)]), cuts(&[(50, 3)]));
        assert_eq!(cuts(&[(50, 1), (80, 2)]).limit(Offset::new(70)), Offset::new(50));
        assert_eq!(cuts(&[(50, 1)]).limit(Offset::new(7)), Offset::new(7));
        let many = cuts(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(many, cuts(&[(1, 1), (3, 3), (4, 4), (5, 5)]));
    }

    #[test]
    fn notes_read_back() {
        for note in [cuts(&[]), cuts(&[(0, 0)]), cuts(&[(0, 1), (5, 2), (9, 3), (1 << 40, 4)])] {
            assert_eq!(Cuts::decode(&note.encode()), note);
        }
    }
}
