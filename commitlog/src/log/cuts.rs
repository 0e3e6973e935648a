//! The note of where a log was cut lately, for what still claims otherwise after a crash.
//!
//! A cut is done to the segments at once, but two things may outlive it: a persisted recovery point above it, and
//! journal frames from before it when the frame that tells of it was not written in time. The note, durable before
//! anything is cut, corrects both: nothing above a cut counts as synced, and frames from before the epoch of the cut
//! are void above it. It corrects no claims any more once one from after it is durable, and is forgotten when neither can be
//! left. The epoch of the newest cut is kept for good: a
//! frame of a newer one tells of a cut that a crash prevented. Pure; knows no files.

use vltava_model::{LeaderEpoch, Offset};

/// Cuts that are remembered; further ones displace those between the first and the last.
const REMEMBERED: usize = 4;

const CUT_BYTES: usize = 12;

/// Set in front of a cut that corrects no claims.
const CLAIMS_FOLLOWED: u64 = 1 << 63;

const NEWEST_BYTES: usize = 4;

/// The length of a note, without a checksum.
pub(crate) const CUTS_BYTES: usize = REMEMBERED * CUT_BYTES + NEWEST_BYTES;

/// One cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// The log's end after it.
    pub at: Offset,
    /// The leader epoch in which it was done: what the journal got in older epochs came before.
    pub epoch: LeaderEpoch,
    /// What is claimed to be synced.
    pub claims: Claims,
}

/// When what is claimed to be synced was found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claims {
    /// Maybe before the cut: above it they are wrong.
    MayPrecede,
    /// After it.
    Followed,
}

impl Cut {
    /// One that is being done.
    pub(crate) const fn new(at: Offset, epoch: LeaderEpoch) -> Self {
        Self { at, epoch, claims: Claims::MayPrecede }
    }
}

/// What is noted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cuts {
    /// The cuts that still matter, oldest first, with offsets ascending: a cut makes those before it that lie higher
    /// pointless.
    list: Vec<Cut>,
    /// The epoch of the newest cut that was done, even if it found nothing to remove.
    newest: Option<LeaderEpoch>,
}

impl Cuts {
    pub(crate) fn push(&mut self, cut: Cut) {
        while self.list.pop_if(|before| before.at >= cut.at).is_some() {}
        if self.list.len() == REMEMBERED {
            self.list.remove(1);
        }
        self.list.push(cut);
        self.done_in(cut.epoch);
    }

    /// Whatever was to be cut in `epoch` is cut.
    pub(crate) fn done_in(&mut self, epoch: LeaderEpoch) {
        self.newest = self.newest.max(Some(epoch));
    }

    pub(crate) const fn newest(&self) -> Option<LeaderEpoch> {
        self.newest
    }

    /// What two notes know together.
    pub(crate) fn merge(self, other: &Self) -> Self {
        let mut all: Vec<Cut> = self.list.into_iter().chain(other.list.iter().copied()).collect();
        all.sort_by_key(|cut| cut.epoch);
        let mut merged = Self { list: Vec::new(), newest: self.newest.max(other.newest) };
        let followed: Vec<Cut> = all.iter().copied().filter(|cut| cut.claims == Claims::Followed).collect();
        all.into_iter().for_each(|cut| merged.push(cut));
        // What one of them knows to be over is over.
        for cut in &mut merged.list {
            if followed.iter().any(|known| (known.at, known.epoch) == (cut.at, cut.epoch)) {
                cut.claims = Claims::Followed;
            }
        }
        merged
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cut> {
        self.list.iter()
    }

    /// How much of a claim to have synced everything below `claimed` still holds.
    pub(crate) fn limit(&self, claimed: Offset) -> Offset {
        let first = self.list.iter().find(|cut| cut.claims == Claims::MayPrecede);
        first.map_or(claimed, |first| claimed.min(first.at))
    }

    /// What is claimed from now on was found out after all cuts so far; says whether that is news.
    pub(crate) fn claims_followed(&mut self) -> bool {
        let is_news = self.list.iter().any(|cut| cut.claims == Claims::MayPrecede);
        self.list.iter_mut().for_each(|cut| cut.claims = Claims::Followed);
        is_news
    }

    pub(crate) fn encode(&self) -> [u8; CUTS_BYTES] {
        let mut bytes = [0u8; CUTS_BYTES];
        for (slot, cut) in bytes.as_chunks_mut::<CUT_BYTES>().0.iter_mut().zip(&self.list) {
            let mark = if cut.claims == Claims::Followed { CLAIMS_FOLLOWED } else { 0 };
            slot[..8].copy_from_slice(&(mark | (cut.at.get() + 1)).to_be_bytes());
            slot[8..].copy_from_slice(&cut.epoch.get().to_be_bytes());
        }
        let newest = self.newest.map_or(0, |epoch| epoch.get() + 1);
        bytes[CUTS_BYTES - NEWEST_BYTES..].copy_from_slice(&newest.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; CUTS_BYTES]) -> Self {
        let (slots, newest) = bytes.as_chunks::<CUT_BYTES>();
        let list = slots.iter().map_while(|[a, b, c, d, e, f, g, h, epoch @ ..]| {
            let at = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            let claims = if at & CLAIMS_FOLLOWED == 0 { Claims::MayPrecede } else { Claims::Followed };
            let at = Offset::new((at & !CLAIMS_FOLLOWED).checked_sub(1)?);
            Some(Cut { at, epoch: LeaderEpoch::new(u32::from_be_bytes(*epoch)), claims })
        });
        let newest = newest.first_chunk::<NEWEST_BYTES>().map_or(0, |newest| u32::from_be_bytes(*newest));
        Self { list: list.collect(), newest: newest.checked_sub(1).map(LeaderEpoch::new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(list: &[(u64, u32)]) -> Cuts {
        let mut cuts = Cuts::default();
        for (at, epoch) in list {
            cuts.push(Cut::new(Offset::new(*at), LeaderEpoch::new(*epoch)));
        }
        cuts
    }

    #[test]
    fn a_deeper_cut_replaces_those_before_it() {
        let mut forgotten = cuts(&[(50, 1), (80, 2)]);
        forgotten.clear();
        assert!(forgotten.is_empty() && forgotten.newest() == Some(LeaderEpoch::new(2)));
        assert_eq!(cuts(&[(50, 1), (80, 2), (60, 3)]), cuts(&[(50, 1), (60, 3)]));
        assert_eq!(cuts(&[(50, 1), (80, 2), (50, 3)]), cuts(&[(50, 3)]));
        assert_eq!(cuts(&[(50, 1), (80, 2)]).limit(Offset::new(70)), Offset::new(50));
        assert_eq!(cuts(&[(50, 1)]).limit(Offset::new(7)), Offset::new(7));
        let many = cuts(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(many, cuts(&[(1, 1), (3, 3), (4, 4), (5, 5)]));
    }

    #[test]
    fn a_claim_from_after_all_cuts_is_believed_until_the_next() {
        let mut followed = cuts(&[(50, 1), (80, 2)]);
        assert!(followed.claims_followed() && !followed.claims_followed());
        assert_eq!(followed.limit(Offset::new(90)), Offset::new(90));
        assert_eq!(Cuts::decode(&followed.encode()), followed);
        for (one, other) in [(followed.clone(), cuts(&[(50, 1)])), (cuts(&[(50, 1)]), followed.clone())] {
            assert_eq!(one.merge(&other), followed, "what an older note says is over");
        }
        followed.push(Cut::new(Offset::new(60), LeaderEpoch::new(3)));
        assert_eq!(followed.limit(Offset::new(90)), Offset::new(60));
    }

    #[test]
    fn notes_read_back() {
        for note in [cuts(&[]), cuts(&[(0, 0)]), cuts(&[(0, 1), (5, 2), (9, 3), (1 << 40, 4)])] {
            assert_eq!(Cuts::decode(&note.encode()), note);
        }
    }
}
