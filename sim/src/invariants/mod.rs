//! What must hold at every moment of a run, whatever goes wrong: one file for each concern, numbered as in
//! `docs/reliability.md`.
//!
//! After each step of a machine its process is looked at, and only what changed is held against what all were seen to say
//! before. It reads what daemons show; it never changes or delays them, and what goes wrong in a run is not known here.

mod clocks;
mod images;
mod logs;
mod partitions;
mod quorum;
mod registrations;
mod replicas;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vltava_broker::state::BrokerState;
use vltava_controller::QuorumView;
use vltava_metadata::{Delta, Image};
use vltava_model::{BrokerEpoch, NodeId, Offset, TopicPartition};

use crate::baton;
use crate::host::HostId;
use crate::machine::{Excuse, Machine};
pub use clocks::Calm;
use images::Images;
pub use logs::Agreement as LogAgreement;
use partitions::Partitions;
use quorum::Quorum;
use registrations::Registrations;
use replicas::Replicas;
use topics::Topics;

/// What does not hold, in words.
pub type Violation = String;

/// What an invariant says.
type Verdict = Result<(), Violation>;

/// One life of the process on a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Life {
    host: HostId,
    start: u32,
}

/// Whether a disk holds what was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// It does.
    Whole,
    /// A fault has turned bits of it.
    Damaged,
}

impl Trust {
    fn of(machine: &Machine) -> Self {
        if machine.excuses().contains(&Excuse::Damage) { Self::Damaged } else { Self::Whole }
    }
}

/// Up to where clients were told that records are committed, by partition. Clones share it.
#[derive(Clone, Default)]
pub struct Shown(Arc<Mutex<BTreeMap<TopicPartition, Offset>>>);

impl Shown {
    /// A client was told that everything below `end` is committed.
    pub fn show(&self, partition: TopicPartition, end: Offset) {
        let mut shown = self.lock();
        let known = shown.entry(partition).or_insert(end);
        *known = end.max(*known);
    }

    fn end(&self, partition: TopicPartition) -> Offset {
        self.lock().get(&partition).copied().unwrap_or(Offset::ZERO)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Offset>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All invariants, and what they remember.
pub struct Watch {
    images: Images,
    quorum: Quorum,
    partitions: Partitions,
    registrations: Registrations,
    topics: Topics,
    replicas: Replicas,
    /// What each machine showed when it was looked at last, by its number.
    last: Vec<Option<Glimpse>>,
}

/// What a process shows that tells whether anything that it shows has changed.
#[derive(Clone, PartialEq, Debug)]
struct Glimpse {
    life: Life,
    image: ImageId,
    said: Said,
}

/// A state of the metadata, kept so that no other one can come to lie where it does.
#[derive(Clone, Debug)]
struct ImageId(Arc<Image>);

impl PartialEq for ImageId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a process says beside its metadata.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Said {
    Controller(QuorumView),
    /// How often its threads had run: partitions change on threads only.
    Broker {
        epoch: BrokerEpoch,
        is_active: bool,
        activity: u64,
    },
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(shown: Shown) -> Self {
        Self {
            images: Images::default(),
            quorum: Quorum::default(),
            partitions: Partitions::default(),
            registrations: Registrations::default(),
            topics: Topics::default(),
            replicas: Replicas::new(shown),
            last: Vec::new(),
        }
    }

    /// Looks at a machine after its step.
    ///
    /// # Errors
    /// What does not hold.
    pub fn look(&mut self, machine: &Machine) -> Verdict {
        let window = machine.window();
        let life = Life { host: machine.id, start: machine.starts };
        if let Some(controller) = &window.controller {
            let (view, image) = (controller.quorum(), controller.published().image());
            let glimpse = Glimpse { life, image: ImageId(image.clone()), said: Said::Controller(view) };
            if self.is_news(&glimpse) {
                self.quorum.look(life, controller.directory_id(), view)?;
                self.see_image(life, image, images::Source::Controller)?;
                self.keep(glimpse);
            }
        }
        if let Some(broker) = &window.broker {
            self.look_at_broker(life, broker, machine)?;
        }
        Ok(())
    }

    /// Compares the logs of all replicas on the disks of brokers that run: what is committed, and all below what agrees.
    /// With [`LogAgreement::Whole`] nothing may be under way, and they must be equal to their ends.
    ///
    /// # Errors
    /// Where they differ.
    pub fn compare_logs(&self, machines: &[Machine], agreement: LogAgreement) -> Verdict {
        logs::compare(machines, agreement)
    }

    /// The cluster at rest, if it is.
    pub fn calm(&self) -> Option<Calm> {
        Calm::of(self.images.newest(), self.quorum.term())
    }

    /// Whether the cluster is as it was; for runs in which nothing but clocks goes wrong.
    ///
    /// # Errors
    /// What has changed.
    pub fn is_still(&self, calm: &Calm) -> Verdict {
        calm.lasts(self.images.newest(), self.quorum.term())
    }

    /// The newest metadata that any controller had applied.
    pub fn newest(&self) -> &Arc<Image> {
        self.images.newest()
    }

    /// A broker has ended that was let go by the controller.
    ///
    /// # Errors
    /// What it still has.
    pub fn left(&self, node: NodeId) -> Verdict {
        partitions::are_without(self.images.newest(), node)
    }

    /// Another disk was put in the place of a broker's: what the old one kept does not count.
    pub fn forget_disk(&mut self, node: NodeId) {
        self.replicas.forget_disk(node);
    }

    fn look_at_broker(&mut self, life: Life, broker: &BrokerState, machine: &Machine) -> Verdict {
        let (image, activity) = (broker.image(), baton::resumed(life.host));
        let said = Said::Broker { epoch: broker.broker_epoch(), is_active: broker.is_active(), activity };
        let glimpse = Glimpse { life, image: ImageId(image.clone()), said };
        if !self.is_news(&glimpse) {
            return Ok(());
        }
        self.registrations.look(life, broker, &image)?;
        self.see_image(life, image, images::Source::Broker)?;
        if self.keep(glimpse) == Some(activity) {
            return Ok(());
        }
        self.topics.look(broker)?;
        self.replicas.look((life, Trust::of(machine)), broker, self.images.newest(), &mut self.partitions)
    }

    fn is_news(&self, glimpse: &Glimpse) -> bool {
        self.last.get(glimpse.life.host.0 as usize).and_then(Option::as_ref) != Some(glimpse)
    }

    /// Keeps what was seen; gives back how often the machine's threads had run when a broker on it was looked at before.
    fn keep(&mut self, glimpse: Glimpse) -> Option<u64> {
        let place = glimpse.life.host.0 as usize;
        if self.last.len() <= place {
            self.last.resize(place + 1, None);
        }
        match self.last[place].replace(glimpse)?.said {
            Said::Broker { activity, .. } => Some(activity),
            Said::Controller(_) => None,
        }
    }

    fn see_image(&mut self, life: Life, image: Arc<Image>, source: images::Source) -> Verdict {
        let Some(place) = self.images.see(life, image, source)? else { return Ok(()) };
        for (before, after) in place.steps() {
            let delta = Delta::between((**before).clone(), (**after).clone());
            self.partitions.step(&delta)?;
            self.registrations.step(&delta)?;
            if Arc::ptr_eq(after, self.images.newest()) {
                self.replicas.step(&delta)?;
            }
        }
        self.topics.state(&place.image)
    }
}
