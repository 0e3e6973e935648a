//! I2, I3, I4, I5, I6, I9, I10 by offsets: what is committed lies on the stable storage of every in-sync replica when it becomes
//! so, stays there over crashes, and is never taken back by anybody who leads later.
//!
//! Reads the offsets that brokers show to their own requests. What lies at them is compared in `logs.rs`.

use std::collections::BTreeMap;

use vltava_broker::shard::shared::{PartitionShared, Standing};
use vltava_broker::state::BrokerState;
use vltava_metadata::{Change, Delta, Image, PartitionImage};
use vltava_model::{LeaderEpoch, NodeId, Offset, TopicPartition};

use super::partitions::Partitions;
use super::{Life, Shown, Trust, Verdict, Violation};

/// What a broker shows of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct View {
    role: Role,
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
    durable_end: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Leads { epoch: LeaderEpoch, start: Offset },
    Follows,
}

/// What the disk of a machine was said to keep of a replica, whether or not its process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    life: Life,
    view: View,
}

/// See the module.
pub struct Replicas {
    shown: Shown,
    kept: BTreeMap<(NodeId, TopicPartition), Kept>,
    /// Up to where disks kept replicas that were lost since.
    lost: BTreeMap<(NodeId, TopicPartition), Offset>,
    /// The highest watermark that a leader had, since it knew it, and in which epoch.
    exposed: BTreeMap<TopicPartition, (Offset, LeaderEpoch)>,
}

/// A replica that is looked at.
struct Look<'a> {
    life: Life,
    trust: Trust,
    node: NodeId,
    of: TopicPartition,
    view: View,
    /// The newest committed metadata of it; `None` when its topic is gone.
    image: Option<&'a PartitionImage>,
    /// How many replicas must have a record before it is acknowledged.
    min_isr: usize,
}

impl Replicas {
    /// Nothing was seen yet; `shown` is what clients were told.
    pub fn new(shown: Shown) -> Self {
        Self { shown, kept: BTreeMap::new(), lost: BTreeMap::new(), exposed: BTreeMap::new() }
    }

    /// Another disk was put in the place of a broker's.
    pub fn forget_disk(&mut self, node: NodeId) {
        for ((_, of), kept) in self.kept.extract_if(.., |(of, _), _| *of == node) {
            let end = self.lost.entry((node, of)).or_default();
            *end = kept.view.durable_end.max(*end);
        }
    }

    /// What changed to the newest committed state: who joins an ISR has on stable storage all that a leader had committed.
    pub fn step(&self, delta: &Delta) -> Verdict {
        for (of, change) in delta.partitions() {
            if let Change::Changed { before, after } = change {
                self.joins(*of, before, after)?;
            }
        }
        Ok(())
    }

    fn joins(&self, of: TopicPartition, before: &PartitionImage, after: &PartitionImage) -> Verdict {
        let Some((exposed, _)) = self.exposed.get(&of) else { return Ok(()) };
        for member in after.isr.iter().filter(|member| !before.isr.contains(member)) {
            let end = self.kept.get(&(*member, of)).map(|kept| kept.view.durable_end);
            if end.is_some_and(|end| end < *exposed) {
                return Err(format!(
                    "I9: {member} joins the ISR of {of}, which is committed up to {exposed}; on {member} it is on stable \
                     storage up to {end:?}; {before:?} became {after:?}"
                ));
            }
        }
        Ok(())
    }

    /// All replicas of a broker.
    pub fn look(
        &mut self,
        (life, trust): (Life, Trust),
        broker: &BrokerState,
        newest: &Image,
        partitions: &mut Partitions,
    ) -> Verdict {
        let node = broker.node_id;
        if broker.metrics.alarms.get() > 0 {
            return Err(format!("I6: broker {node} met a contradiction between replicas"));
        }
        for handle in broker.partitions().values() {
            let of = handle.partition();
            let Some(view) = View::of(handle.shared()) else {
                // Not served: its disk keeps what it has, and it is opened anew when it is served again.
                if let Some(kept) = self.kept.get_mut(&(node, of)) {
                    kept.life.start = 0;
                    // It may have told its leader more since it was looked at last.
                    let durable = handle.shared().durable_end();
                    kept.view.durable_end = kept.view.durable_end.max(durable);
                }
                continue;
            };
            if self.kept.get(&(node, of)) == Some(&Kept { life, view }) {
                continue;
            }
            if let Role::Leads { epoch, .. } = view.role {
                partitions.leads(of, epoch, node)?;
            }
            let image = newest.partition(of).map(|image| &**image);
            let min_isr =
                image.map_or(0, |image| broker.topic_config(of.topic).min_in_sync(image.replicas.len()));
            self.see(&Look { life, trust, node, of, view, image, min_isr })?;
        }
        Ok(())
    }

    fn see(&mut self, look: &Look<'_>) -> Verdict {
        let Look { life, node, of, view, .. } = look;
        let fail = |rule: &str, what: String| Err(format!("{rule}: {of} on broker {node}: {what}; {view:?}"));
        if !view.is_ordered() {
            return fail("I4", "its offsets are out of order".into());
        }
        let before = self.kept.insert((*node, *of), Kept { life: *life, view: *view });
        if let Some(before) = before {
            let verdict = match before.life == *life {
                true => view.goes_on(&before.view),
                false => look.comes_back(&before.view),
            };
            if let Err((rule, what)) = verdict {
                return fail(rule, format!("{what}, after {:?}", before.view));
            }
        }
        let Role::Leads { epoch, start } = view.role else { return Ok(()) };
        let moved = before.is_none_or(|before| {
            before.life != *life
                || before.view.role != view.role
                || before.view.high_watermark < view.high_watermark
        });
        if moved && view.high_watermark >= start {
            self.commits(look, epoch)?;
        }
        self.keeps_what_was_shown(look, epoch, start)
    }

    /// What a leader counts as committed lies on the stable storage of all that are in sync.
    fn commits(&mut self, look: &Look<'_>, epoch: LeaderEpoch) -> Verdict {
        let Look { node, of, view, image, min_isr, .. } = look;
        let Some(image) = image.filter(|image| image.leader_epoch == epoch) else { return Ok(()) };
        let hw = view.high_watermark;
        let durable = |member: &NodeId| self.kept.get(&(*member, *of)).map(|kept| kept.view.durable_end);
        for member in &image.isr {
            let end = durable(member);
            if end.is_some_and(|end| end < hw) {
                return Err(format!(
                    "I2, I5: {of} is committed up to {hw} by broker {node} in epoch {epoch}; on {member}, which is in sync, \
                     it is on stable storage up to {end:?}"
                ));
            }
        }
        // What was acknowledged may have been on a disk that was lost since.
        let had = |member: &NodeId| self.lost.get(&(*member, *of)).is_some_and(|end| *end >= hw);
        let copies = image
            .replicas
            .iter()
            .filter(|member| durable(member).is_some_and(|end| end >= hw) || had(member))
            .count();
        // A broker that opens many replicas shows none of them before all are open; who is in sync has what its leader counts.
        let unseen = image.isr.iter().filter(|member| durable(member).is_none()).count();
        // What was committed before was counted then; a replica that had it may have been given up as damaged since.
        let committed = self.exposed.get(of).map_or(view.log_start, |(before, _)| *before);
        if hw > committed.max(view.log_start) && copies + unseen < *min_isr {
            let ends: Vec<_> = image.replicas.iter().map(|member| (*member, durable(member))).collect();
            return Err(format!(
                "I10: {of} is committed up to {hw} by broker {node} in epoch {epoch}, on stable storage of {copies} of {min_isr}: \
                 {ends:?}; before, it was committed up to {committed}"
            ));
        }
        Ok(())
    }

    /// Who leads in the newest epoch has all that anybody was shown before.
    fn keeps_what_was_shown(&mut self, look: &Look<'_>, epoch: LeaderEpoch, start: Offset) -> Verdict {
        let Look { node, of, view, image, .. } = look;
        if image.is_none_or(|image| image.leader_epoch != epoch) {
            return Ok(());
        }
        let (exposed, exposed_in) = self.exposed.get(of).copied().unwrap_or_default();
        let told = self.shown.end(*of);
        let known = exposed.max(told);
        if view.log_end < known {
            return Err(format!(
                "P1: {of}: broker {node} leads in epoch {epoch} up to {}, committed was {exposed} (epoch {exposed_in}), clients \
                 were told {told}",
                view.log_end
            ));
        }
        if view.high_watermark < start {
            return Ok(());
        }
        if view.high_watermark < known {
            return Err(format!(
                "I4: {of}: broker {node} has its watermark at {} in epoch {epoch}, it was at {exposed} (epoch {exposed_in}), \
                 clients were told {told}",
                view.high_watermark
            ));
        }
        self.exposed.insert(*of, (view.high_watermark, epoch));
        Ok(())
    }
}

impl View {
    fn of(shared: &PartitionShared) -> Option<Self> {
        let role = match &*shared.standing() {
            Standing::Leading { epoch, epoch_start, .. } => {
                Role::Leads { epoch: *epoch, start: *epoch_start }
            }
            Standing::Following { .. } => Role::Follows,
            Standing::Offline => return None,
        };
        Some(Self {
            role,
            log_start: shared.log_start(),
            high_watermark: shared.high_watermark(),
            log_end: shared.log_end(),
            durable_end: shared.durable_end(),
        })
    }

    fn is_ordered(&self) -> bool {
        self.log_start <= self.high_watermark
            && self.high_watermark <= self.log_end
            && self.durable_end <= self.log_end
    }

    /// Within a process.
    fn goes_on(&self, before: &Self) -> Result<(), (&'static str, Violation)> {
        if self.high_watermark < before.high_watermark {
            return Err(("I4, I6", "its watermark went back".into()));
        }
        if self.log_start < before.log_start {
            return Err(("I13", "its log start went back".into()));
        }
        if self.role == before.role && self.role != Role::Follows && self.log_end < before.log_end {
            return Err(("I1", "a leader's log end went back".into()));
        }
        Ok(())
    }
}

impl Look<'_> {
    /// In another process, after the one before was killed or lost its power. A follower may have been cutting its log, but
    /// never below what is committed.
    fn comes_back(&self, before: &View) -> Result<(), (&'static str, Violation)> {
        let is_set_aside =
            self.image.is_none_or(|image| image.is_damaged(self.node) || image.emptied.contains(&self.node));
        let must_have = match before.role {
            Role::Leads { .. } => before.durable_end,
            Role::Follows => before.durable_end.min(before.high_watermark),
        };
        // What bits have turned in has to be noticed, and need not be there.
        match is_set_aside || self.trust == Trust::Damaged || self.view.log_end >= must_have {
            true => Ok(()),
            false => {
                Err(("I10", format!("what was on stable storage up to {must_have} is gone after a crash")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
