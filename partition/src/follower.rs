//! The follower's part: takes what the leader sends, in order and without gaps, and cuts back where the logs diverge.

use vltava_model::epochs::LeaderEpochs;
use vltava_model::{LeaderEpoch, NodeId, Offset};

use crate::effect::Effect;
use crate::event::{Durability, Recovery};
use crate::offsets::Offsets;

/// See the module.
#[derive(Clone, Debug)]
pub struct Follower {
    leader: NodeId,
    epoch: LeaderEpoch,
    recovery: Recovery,
}

/// What every step of a follower needs besides itself.
pub(crate) struct Ground<'a> {
    pub durability: Durability,
    pub offsets: &'a mut Offsets,
    pub epochs: &'a mut LeaderEpochs,
    pub effects: &'a mut Vec<Effect>,
}

/// Batches of the leader's.
pub(crate) struct Data {
    pub base: Offset,
    pub end: Offset,
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Follower {
    /// Begins to follow.
    pub(crate) fn new(leader: NodeId, epoch: LeaderEpoch, recovery: Recovery) -> Self {
        Self { leader, epoch, recovery }
    }

    /// Whom it follows.
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// In which epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Subscribes with what the log is now. The last epoch is that of the last record: an epoch in which this replica led
    /// but wrote nothing says nothing about its records.
    pub(crate) fn subscribe(&self, ground: &mut Ground<'_>) {
        let offsets = &ground.offsets;
        let last =
            offsets.log_end.get().checked_sub(1).map(Offset::new).filter(|last| *last >= offsets.log_start);
        let last_epoch = last.and_then(|last| ground.epochs.epoch_of(last));
        ground.effects.push(Effect::Subscribe { leader: self.leader, leader_epoch: self.epoch, last_epoch });
    }

    pub(crate) fn data(
        &self,
        data: &Data,
        high_watermark: Offset,
        log_start: Offset,
        ground: &mut Ground<'_>,
    ) {
        let from = ground.offsets.log_end;
        if data.base > from {
            // A gap: something on the way was lost. Begin anew from what is here.
            return self.subscribe(ground);
        }
        if data.end > from {
            for (epoch, start) in &data.epochs {
                let assigned = ground.epochs.assign(*epoch, (*start).max(from));
                if ground.epochs.latest() > Some(*epoch) && assigned.is_err() {
                    ground
                        .effects
                        .push(Effect::Alarm(format!("the leader sent epoch {epoch} behind a later one")));
                    return;
                }
            }
            ground.effects.push(Effect::AppendReplicated { from });
            ground.offsets.log_end = data.end;
        }
        self.watermark(high_watermark, log_start, ground);
        if ground.durability == Durability::Relaxed {
            ground.effects.push(Effect::ReportProgress { leader_epoch: self.epoch });
        }
    }

    pub(crate) fn watermark(&self, high_watermark: Offset, log_start: Offset, ground: &mut Ground<'_>) {
        let reached = high_watermark.min(ground.offsets.log_end);
        ground.offsets.high_watermark = ground.offsets.high_watermark.max(reached);
        let start = log_start.min(ground.offsets.log_end);
        if start > ground.offsets.log_start {
            ground.offsets.advance_start(start);
            ground.epochs.advance_start(start);
            ground.effects.push(Effect::AdvanceLogStart { to: start });
        }
    }

    /// Cuts back to where the logs can agree (KIP-101, KIP-279), then asks again.
    pub(crate) fn diverging(&self, epoch: LeaderEpoch, end: Offset, ground: &mut Ground<'_>) {
        let log_end = ground.offsets.log_end;
        let here = ground.epochs.end_of(epoch, log_end).map_or(ground.offsets.log_start, |found| found.end);
        let to = end.min(here).min(log_end).max(ground.offsets.log_start);
        if to < ground.offsets.high_watermark && self.recovery == Recovery::Recovered {
            // Nothing committed may go: the leader lacks what was acknowledged (KAFKA-12460).
            ground.effects.push(Effect::Alarm(format!(
                "the leader of epoch {} ends epoch {epoch} at {end}, below the committed offset {}",
                self.epoch, ground.offsets.high_watermark
            )));
            return;
        }
        ground.offsets.truncate(to);
        ground.epochs.truncate_to(to);
        ground.effects.push(Effect::Truncate { to });
        self.subscribe(ground);
    }

    pub(crate) fn start_at(&self, offset: Offset, ground: &mut Ground<'_>) {
        if offset < ground.offsets.high_watermark && self.recovery == Recovery::Recovered {
            ground.effects.push(Effect::Alarm(format!(
                "the leader of epoch {} begins at {offset} and knows nothing of the records committed here up to {}",
                self.epoch, ground.offsets.high_watermark
            )));
            return;
        }
        ground.offsets.restart_at(offset);
        *ground.epochs = LeaderEpochs::new();
        ground.effects.push(Effect::StartAt { offset });
        self.subscribe(ground);
    }
}
