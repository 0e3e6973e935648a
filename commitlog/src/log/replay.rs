//! What the frames that a journal kept of one log say about it, as a plan that recovery carries out on the segments.
//!
//! Pure: frames in, plan out. A cut may be done to the segments before its frame is written or after; nothing is appended
//! between the two. Which of them a crash prevented is known from the note of the cut. Knows nothing of files.

use bytes::Bytes;
use vltava_model::batch::{Batch, BatchError};
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{LeaderEpoch, Offset};

use super::cuts::{Cut, Cuts};
use crate::durability::{RecoveredBody, RecoveredFrame};

/// What the segments must hold when recovery is done.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Batches that must be there, in order of their offsets; what the segments lack of them is written.
    pub batches: Vec<Batch>,
    /// Below this, the segments were synced: what is missing there is damage.
    pub durable: Option<Offset>,
    /// The log begins no earlier.
    pub start: Option<Offset>,
    /// The log was deleted, and nothing has come after.
    pub is_deleted: bool,
    /// The log was to be cut, which a crash prevented.
    pub cut: Option<Cut>,
    /// The newest cut that is known to be done.
    done: Option<LeaderEpoch>,
}

impl Plan {
    /// Goes through the frames in order; `cuts` come before the first frame of their epoch, where the frames that told
    /// of them may be missing.
    ///
    /// # Errors
    /// When a frame that passed the journal's checks does not hold whole batches.
    pub(crate) fn of(frames: &[RecoveredFrame], cuts: &Cuts) -> Result<Self, BatchError> {
        let mut plan = Self { done: cuts.newest(), ..Self::default() };
        let mut cuts = cuts.iter().peekable();
        for frame in frames {
            while let Some(cut) = cuts.next_if(|cut| cut.epoch <= frame.leader_epoch) {
                plan.truncate(cut.at);
            }
            plan.take(frame)?;
        }
        cuts.for_each(|cut| plan.truncate(cut.at));
        if let Some(start) = plan.start {
            plan.batches.retain(|batch| batch.header().end_offset() > start);
        }
        Ok(plan)
    }

    fn take(&mut self, frame: &RecoveredFrame) -> Result<(), BatchError> {
        match &frame.body {
            RecoveredBody::Append { base_offset, bytes, .. } => self.append(*base_offset, bytes.clone())?,
            RecoveredBody::Synced { end_offset } => {
                self.batches.clear();
                self.durable = Some(*end_offset);
                self.is_deleted = false;
                self.cut = None;
            }
            RecoveredBody::Truncate { to } => {
                let durable = self.durable;
                self.truncate(*to);
                // How much of it the cut left is not known: it may have gone through a batch.
                self.durable = self.durable.filter(|_| self.durable == durable);
                // Where the log notes a cut of that epoch or a newer one, it is done, and what follows it came after.
                if Some(frame.leader_epoch) > self.done {
                    let at = self.cut.map_or(*to, |cut| cut.at.min(*to));
                    self.cut = Some(Cut::new(at, frame.leader_epoch));
                }
            }
            RecoveredBody::StartOffset { to } => {
                self.start = self.start.max(Some(*to));
                self.is_deleted = false;
            }
            RecoveredBody::Delete => *self = Self { is_deleted: true, done: self.done, ..Self::default() },
            // Where the log notes that it was done, it begins where it says, also when the frame that tells of it is torn.
            RecoveredBody::Empty => {
                let is_deleted = Some(frame.leader_epoch) > self.done;
                *self = Self { is_deleted, done: self.done, ..Self::default() };
            }
        }
        Ok(())
    }

    fn append(&mut self, base: Offset, bytes: Bytes) -> Result<(), BatchError> {
        let batches = Batch::split(bytes, usize::MAX)?;
        // One that begins earlier than the last one ends follows a truncation.
        self.truncate(base);
        self.batches.extend(batches);
        self.is_deleted = false;
        self.cut = None;
        Ok(())
    }

    fn truncate(&mut self, to: Offset) {
        let is_void =
            |last: &mut Batch| last.header().end_offset() > to && !seeded(SeededBug::ReplaysCutFrames);
        while self.batches.pop_if(is_void).is_some() {}
        self.durable = self.durable.map(|durable| durable.min(to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::batch_at;

    fn plan(bodies: &[RecoveredBody]) -> Plan {
        let frame =
            |body: &RecoveredBody| RecoveredFrame { leader_epoch: LeaderEpoch::new(1), body: body.clone() };
        Plan::of(&bodies.iter().map(frame).collect::<Vec<_>>(), &Cuts::default()).unwrap()
    }

    fn append(base: u64, records: u32) -> RecoveredBody {
        let bytes = batch_at(base, 1, records).into_bytes();
        RecoveredBody::Append {
            base_offset: Offset::new(base),
            end_offset: Offset::new(base + u64::from(records)),
            bytes,
        }
    }

    fn bases(plan: &Plan) -> Vec<u64> {
        plan.batches.iter().map(|batch| batch.header().base_offset.get()).collect()
    }

    fn to(to: u64) -> Offset {
        Offset::new(to)
    }

    #[test]
    fn a_truncation_voids_what_was_appended_before_it_only() {
        let frames = [append(10, 5), append(15, 5), RecoveredBody::Truncate { to: to(15) }, append(15, 2)];
        assert_eq!(bases(&plan(&frames)), [10, 15]);
        let frames = [append(10, 5), append(15, 5), RecoveredBody::Truncate { to: to(12) }];
        assert_eq!(bases(&plan(&frames)), [0u64; 0], "a batch is cut whole");
    }

    #[test]
    fn what_was_synced_needs_no_frames_and_a_truncation_voids_it() {
        let synced = RecoveredBody::Synced { end_offset: to(20) };
        let found = plan(&[append(10, 5), append(15, 5), synced.clone(), append(20, 1)]);
        assert_eq!((bases(&found), found.durable), (vec![20], Some(to(20))));
        let cut = |at| plan(&[synced.clone(), RecoveredBody::Truncate { to: to(at) }]).durable;
        assert_eq!((cut(20), cut(17)), (Some(to(20)), None), "a batch is cut whole, wherever it began");
    }

    #[test]
    fn a_cut_that_is_not_noted_is_still_to_be_done() {
        let frames = [append(10, 5), RecoveredBody::Truncate { to: to(15) }];
        assert_eq!(plan(&frames).cut.map(|cut| cut.at), Some(to(15)));
        let frames = [append(10, 5), RecoveredBody::Truncate { to: to(15) }, append(15, 1)];
        assert_eq!(plan(&frames).cut, None);
        let frame = RecoveredFrame {
            leader_epoch: LeaderEpoch::new(3),
            body: RecoveredBody::Truncate { to: to(15) },
        };
        for (noted, expected) in [(2, Some(to(15))), (3, None), (4, None)] {
            let mut cuts = Cuts::default();
            cuts.done_in(LeaderEpoch::new(noted));
            assert_eq!(
                Plan::of(std::slice::from_ref(&frame), &cuts).unwrap().cut.map(|cut| cut.at),
                expected
            );
        }
    }

    #[test]
    fn deletion_voids_everything_before_it() {
        let found = plan(&[append(10, 5), RecoveredBody::Delete]);
        assert!(found.is_deleted && found.batches.is_empty());
        let found = plan(&[
            append(10, 5),
            RecoveredBody::Delete,
            RecoveredBody::StartOffset { to: to(90) },
            append(90, 1),
        ]);
        assert!(!found.is_deleted);
        assert_eq!((bases(&found), found.start), (vec![90], Some(to(90))));
    }

    #[test]
    fn a_log_is_emptied_once() {
        let frame = |epoch, body| RecoveredFrame { leader_epoch: LeaderEpoch::new(epoch), body };
        let frames = [frame(2, append(10, 5)), frame(3, RecoveredBody::Empty)];
        for (noted, is_to_be_done) in [(None, true), (Some(2), true), (Some(3), false), (Some(4), false)] {
            let mut cuts = Cuts::default();
            noted.into_iter().for_each(|epoch| cuts.done_in(LeaderEpoch::new(epoch)));
            let plan = Plan::of(&frames, &cuts).unwrap();
            assert!(plan.batches.is_empty());
            assert_eq!(plan.is_deleted, is_to_be_done, "{noted:?}");
        }
    }

    #[test]
    fn a_cut_voids_frames_of_older_epochs_when_its_own_frame_is_missing() {
        let frame = |epoch, body| RecoveredFrame { leader_epoch: LeaderEpoch::new(epoch), body };
        let mut cuts = Cuts::default();
        cuts.push(Cut::new(to(12), LeaderEpoch::new(3)));
        let old = [frame(1, append(10, 2)), frame(2, append(12, 3))];
        assert_eq!(bases(&Plan::of(&old, &cuts).unwrap()), [10]);
        let newer = [frame(1, append(12, 3)), frame(3, append(12, 1)), frame(3, append(13, 1))];
        assert_eq!(bases(&Plan::of(&newer, &cuts).unwrap()), [12, 13]);
        let synced = [frame(2, RecoveredBody::Synced { end_offset: to(20) })];
        assert_eq!(Plan::of(&synced, &cuts).unwrap().durable, Some(to(12)));
    }

    #[test]
    fn batches_below_the_start_are_left_out() {
        let found = plan(&[append(10, 5), append(15, 5), RecoveredBody::StartOffset { to: to(17) }]);
        assert_eq!(bases(&found), [15], "the one that holds the start stays whole");
    }
}
