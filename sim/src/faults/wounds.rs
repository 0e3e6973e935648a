//! Disks that do not hold any more what was synced to them. Of brokers and of controllers only one at a time is within the
//! promise, so each is known here until the cluster is whole again.
//!
//! It looks into processes and images directly: what it knows can not be late.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_metadata::{BrokerImage, BrokerState, Image, PartitionImage};
use vltava_model::{DirectoryId, NodeId, PartitionEpoch};
use vltava_storage::{MemoryStorage, Rot};

use super::Field;
use super::operator::Task;
use crate::host::HostId;
use crate::machine::{Excuse, Machine, Role};
use crate::world::World;

/// Whose disks are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Those of brokers.
    Brokers,
    /// Those of controllers.
    Controllers,
}

impl Side {
    /// Which side a machine is on; clients' are on none.
    pub fn of(machine: &Machine) -> Option<Self> {
        match machine.role {
            Role::Broker(_) => Some(Self::Brokers),
            Role::Controller(_) => Some(Self::Controllers),
            Role::Client => None,
        }
    }
}

/// What became of a disk.
#[derive(Debug)]
pub enum Harm {
    /// It will be lost.
    ToCome,
    /// What it held is gone, or some of it; the processes up to this start of the machine knew it.
    Lost {
        /// Counted as the machine counts them.
        start: u32,
    },
    /// Bits turned over; they are still there, or the replica was not yet seen to be whole since.
    Rot(Vec<Rot>),
    /// It can not be read.
    Unreadable,
    /// A controller does not vote until the operator is done.
    Vote(Task),
    /// It will never be seen again; a broker's registration goes when the operator is done.
    Gone(Task),
}

#[derive(Debug)]
struct Wound {
    side: Side,
    host: HostId,
    harm: Harm,
    /// What a controller voted with when it began.
    directory: Option<DirectoryId>,
    /// How many processes had ended themselves on it when it began.
    deaths: usize,
}

/// See the module.
#[derive(Default)]
pub struct Wounds {
    /// What disks held some time ago.
    pub snapshots: BTreeMap<HostId, MemoryStorage>,
    open: Vec<Wound>,
    /// The newest metadata that any controller ever showed.
    image: Option<Arc<Image>>,
}

/// So often a machine with damaged bytes may refuse to start before its disk is replaced.
const REFUSALS_MAX: usize = 2;

impl Wounds {
    /// Whether that machine's disk may be harmed: none of its side is, or just that.
    pub fn allow(&self, side: Side, host: HostId) -> bool {
        self.open.iter().all(|wound| wound.side != side || wound.host == host)
    }

    /// Whether a broker holds something that no other replica has for certain: a partition that was created while nobody else
    /// was up has one such replica, and is offline for good without it. Or whether it may get such a partition now: what is
    /// being created is in no image yet.
    pub fn is_alone(&mut self, world: &World, node: NodeId) -> bool {
        self.look(world);
        self.image.as_ref().is_none_or(|image| {
            let holds_alone = |known: &PartitionImage| {
                let mut counts = known.isr.iter().chain(&known.elr).peekable();
                counts.peek().is_some() && counts.all(|other| *other == node)
            };
            let is_up =
                |broker: &Arc<BrokerImage>| broker.node_id != node && broker.state == BrokerState::Active;
            image.partitions().any(|(_, known)| holds_alone(known)) || !image.brokers().any(is_up)
        })
    }

    /// Machines of a side whose disks may be harmed now.
    pub fn harmable(&mut self, world: &World, side: Side) -> Vec<HostId> {
        let of_side = world.machines.iter().filter(|machine| Side::of(machine) == Some(side));
        let may = of_side.filter(|machine| match machine.role {
            Role::Broker(node) => self.allow(side, machine.id) && !self.is_alone(world, NodeId::new(node)),
            Role::Controller(_) | Role::Client => self.allow(side, machine.id),
        });
        may.map(|machine| machine.id).collect()
    }

    /// Whether nothing of that side is harmed.
    pub fn is_free(&self, side: Side) -> bool {
        self.open.iter().all(|wound| wound.side != side)
    }

    /// Whether what was announced is still to happen to a disk.
    pub fn is_to_come(&self, host: HostId) -> bool {
        self.open.iter().any(|wound| wound.host == host && matches!(wound.harm, Harm::ToCome))
    }

    /// Whether a machine waits for its vote.
    pub fn is_replacing(&self, host: HostId) -> bool {
        self.open.iter().any(|wound| wound.host == host && !matches!(wound.harm, Harm::Rot(_)))
    }

    /// Notes what became of a disk; it counts from now on, in place of what was wrong with it before.
    pub fn note(&mut self, world: &mut World, host: HostId, harm: Harm) {
        let Some(side) = Side::of(world.machine(host)) else { return };
        assert!(self.allow(side, host), "no other disk is harmed");
        self.forget(world, host);
        if let Harm::Rot(_) | Harm::Unreadable = harm {
            world.machine(host).excuse(Excuse::Damage);
        }
        let directory = world.machine(host).directory();
        let deaths = world.deaths_of(host);
        self.open.push(Wound { side, host, harm, directory, deaths });
    }

    /// Notes one more bit that turned over on a disk.
    pub fn add_rot(&mut self, world: &mut World, host: HostId, rot: Rot) {
        let before = self.open.iter_mut().find(|wound| wound.host == host);
        match before {
            Some(Wound { harm: Harm::Rot(rots), .. }) => rots.push(rot),
            _ => self.note(world, host, Harm::Rot(vec![rot])),
        }
    }

    /// There is nothing wrong with a machine's disk, after all.
    pub fn forget(&mut self, world: &mut World, host: HostId) {
        if self.open.iter().any(|wound| wound.host == host) {
            world.machine(host).excuse_no_more(Excuse::Damage);
        }
        self.open.retain(|wound| wound.host != host);
    }

    /// It can be read again: what was given up because of that is still to be made whole.
    pub fn can_be_read(&mut self, host: HostId) {
        let wound = self.open.iter_mut().find(|wound| wound.host == host);
        if let Some(wound) = wound.filter(|wound| matches!(wound.harm, Harm::Unreadable)) {
            wound.harm = Harm::Rot(Vec::new());
        }
    }

    /// What is still harmed, in words; rot that nobody has noticed is not, nor is a broker that is gone and forgotten.
    pub fn lacks(&self) -> Vec<String> {
        let lacks = |wound: &&Wound| match &wound.harm {
            Harm::Rot(_) => false,
            Harm::Gone(task) => !task.is_done(),
            Harm::ToCome | Harm::Lost { .. } | Harm::Unreadable | Harm::Vote(_) => true,
        };
        self.open
            .iter()
            .filter(lacks)
            .map(|wound| format!("{} is not whole again: {:?}", wound.host, wound.harm))
            .collect()
    }

    fn look(&mut self, world: &World) {
        for machine in &world.machines {
            let Some(controller) = &machine.window().controller else { continue };
            let image = controller.published().image();
            if self.image.as_ref().is_none_or(|newest| newest.offset() < image.offset()) {
                self.image = Some(image);
            }
        }
    }
}

/// Closes what is whole again; replaces disks that processes refuse to use.
pub fn tend(field: &mut Field<'_>) {
    if field.wounds.open.is_empty() {
        return;
    }
    field.wounds.look(field.world);
    let hosts: Vec<HostId> = field.wounds.open.iter().map(|wound| wound.host).collect();
    for host in hosts {
        if is_whole(field, host) {
            field.wounds.forget(field.world, host);
        } else if refuses(field, host) {
            replace(field, host);
        }
    }
}

fn is_whole(field: &mut Field<'_>, host: HostId) -> bool {
    let Some(wound) = field.wounds.open.iter().find(|wound| wound.host == host) else { return true };
    let machine = &field.world.machines[host.0 as usize - 1];
    let in_sync = |start| match machine.role {
        Role::Broker(node) => {
            machine.starts > start && has_caught_up(field.wounds, machine, NodeId::new(node))
        }
        Role::Controller(_) | Role::Client => true,
    };
    match &wound.harm {
        Harm::ToCome | Harm::Unreadable | Harm::Gone(_) => false,
        Harm::Lost { start } => in_sync(*start),
        Harm::Rot(rots) => !rots.iter().any(|rot| machine.disk.has(rot)) && in_sync(0),
        Harm::Vote(task) => task.is_done(),
    }
}

/// Whether the process that runs there is the registered one, and every partition has all its replicas in sync.
fn has_caught_up(wounds: &Wounds, machine: &Machine, node: NodeId) -> bool {
    let Some(image) = &wounds.image else { return false };
    let window = machine.window();
    let Some(broker) = &window.broker else { return false };
    let registered = image.broker(node).is_some_and(|known| known.incarnation == broker.incarnation);
    let mut partitions = image.partitions();
    registered
        && partitions.all(|(_, known)| {
            let is_whole = known.leader.is_some() && known.isr.len() == known.replicas.len();
            is_whole || went_with_its_only_disk(known)
        })
}

/// Whether a partition was created while one broker was up, whose disk was lost before another had caught up. That is what
/// nobody promises (docs/reliability.md): it stays offline until an unclean election. Who leads it was decided twice since it was
/// created, when that broker went and when it came back without it; anyone else in sync would have taken a third time.
fn went_with_its_only_disk(known: &PartitionImage) -> bool {
    let nobody_has_it = [&known.isr, &known.elr, &known.last_known_elr].iter().all(|set| set.is_empty());
    known.leader.is_none() && nobody_has_it && known.partition_epoch <= PartitionEpoch::new(2)
}

/// Whether a broker is fenced, and in no set of replicas that may have everything.
pub fn nobody_counts_on(field: &mut Field<'_>, node: NodeId) -> bool {
    field.wounds.look(field.world);
    let Some(image) = &field.wounds.image else { return false };
    let fenced = image.broker(node).is_some_and(|known| known.state == BrokerState::Fenced);
    let mut partitions = image.partitions();
    fenced
        && partitions.all(|(_, known)| {
            [&known.isr, &known.elr, &known.last_known_elr].iter().all(|set| !set.contains(&node))
        })
}

/// Whether a machine's processes can not go on with what its disk holds.
fn refuses(field: &mut Field<'_>, host: HostId) -> bool {
    let Some(wound) = field.wounds.open.iter().find(|wound| wound.host == host) else { return false };
    matches!(wound.harm, Harm::Rot(_)) && field.world.deaths_of(host) >= wound.deaths + REFUSALS_MAX
}

/// Puts an empty disk in place of a machine's; a controller gets its vote anew.
pub fn replace(field: &mut Field<'_>, host: HostId) {
    let machine = field.world.machine(host);
    let (role, start) = (machine.role, machine.starts);
    let known = field.wounds.open.iter().find(|wound| wound.host == host);
    let directory = machine.directory().or(known.and_then(|wound| wound.directory));
    field.world.replace_disk(host, MemoryStorage::new(), field.length.min(5000));
    let harm = match role {
        Role::Controller(node) => Harm::Vote(field.operator.replace(node, directory)),
        Role::Broker(_) | Role::Client => Harm::Lost { start },
    };
    field.wounds.note(field.world, host, harm);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_disk_alone_ever_had_may_stay_away() {
        let gone = PartitionImage { partition_epoch: PartitionEpoch::new(2), ..PartitionImage::default() };
        assert!(went_with_its_only_disk(&gone));
        let node = NodeId::new(1);
        let not = [
            PartitionImage { partition_epoch: PartitionEpoch::new(3), ..gone.clone() },
            PartitionImage { leader: Some(node), ..gone.clone() },
            PartitionImage { isr: vec![node], ..gone.clone() },
            PartitionImage { elr: vec![node], ..gone.clone() },
            PartitionImage { last_known_elr: vec![node], ..gone.clone() },
        ];
        for image in not {
            assert!(!went_with_its_only_disk(&image), "{image:?}");
        }
    }
}
