//! What goes wrong during a run: one fault after the other, several at once, each for a while, all by the seed.
//!
//! When and how long is known here; what a fault does is its own business.

use std::collections::BTreeMap;

use rand::RngExt;
use vltava_history::event::{At, FaultBegins, FaultRef};
use vltava_model::NodeId;

use crate::clock::{self, Millis};
use crate::faults::{self, Fault, Field, KINDS, Kind, Operator, Wounds};
use crate::host::HostId;
use crate::load::Load;
use crate::machine::Role;
use crate::programs;
use crate::random::{self, Random};
use crate::world::World;

/// What goes wrong in a run, by the seed.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How long nothing new goes wrong at most.
    pub rest_max: Millis,
    /// How long a fault lasts at most.
    pub last_max: Millis,
    /// Which faults there are, as bits by [`KINDS`].
    pub kinds: u32,
    /// Whom they find more often than others.
    pub aim: Aim,
}

/// Whom most faults find.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// Anybody.
    Anybody,
    /// Whoever leads a partition: this one of those that there are.
    Leader(usize),
    /// Those that follow in it.
    Followers(usize),
    /// One of its replicas, whether or not it leads: one thing after the other happens to the same broker.
    Replica(usize),
}

/// In one of so many seeds a broker may leave for good: after that no other broker's disk can be harmed.
const LEAVES: u32 = 8;

impl Habits {
    /// Some seeds are calm, so that what goes wrong has its whole course before the next thing does; some are stormy.
    pub fn draw(random: &mut Random) -> Self {
        let any = |random: &mut Random| random.random::<u32>();
        let (rest, kinds) = match random.random_range(0..10) {
            0..3 => (3_000..=15_000, any(random) & any(random)),
            3..8 => (500..=10_000, any(random) | any(random)),
            _ => (200..=2_000, any(random) | any(random)),
        };
        let place = random.random_range(0..1_000);
        let aim =
            [Aim::Anybody, Aim::Anybody, Aim::Leader(place), Aim::Followers(place), Aim::Replica(place)];
        let leaves = if random.random_ratio(1, LEAVES) { u32::MAX } else { !bit(faults::BROKER_LEAVES) };
        Self {
            rest_max: random.random_range(rest),
            last_max: random.random_range(2_000..=20_000),
            kinds: kinds & leaves,
            aim: aim[random.random_range(0..aim.len())],
        }
    }

    /// Nothing but wall clocks that jump.
    pub fn only_clocks(self) -> Self {
        Self { kinds: bit(faults::CLOCK_STEP), ..self }
    }
}

fn bit(name: &str) -> u32 {
    let place = KINDS.iter().position(|kind| kind.name == name).expect("all kinds are in it");
    1 << place
}

/// A fault that lasts.
struct Lasting {
    until: Millis,
    number: FaultRef,
    fault: Box<dyn Fault>,
}

/// See the module.
pub struct Nemesis {
    habits: Habits,
    random: Random,
    next: Millis,
    lasting: Vec<Lasting>,
    wounds: Wounds,
    operator: Operator,
    counts: BTreeMap<&'static str, u32>,
}

impl Nemesis {
    /// It begins some time after now.
    pub fn new(seed: u64, habits: Habits) -> Self {
        let mut random = random::stream(seed, "nemesis");
        let next = clock::now() + random.random_range(1..=habits.rest_max);
        Self {
            habits,
            random,
            next,
            lasting: Vec::new(),
            wounds: Wounds::default(),
            operator: Operator::default(),
            counts: BTreeMap::new(),
        }
    }

    /// How often what went wrong.
    pub fn counts(&self) -> &BTreeMap<&'static str, u32> {
        &self.counts
    }

    /// Starts the operator, whom it tells what to do.
    pub fn start_operator(&self, world: &mut World) {
        world.run_on(programs::OPERATOR, self.operator.program());
    }

    /// Breaks and heals what is due.
    pub fn act(&mut self, world: &mut World, load: &Load) {
        let now = clock::now();
        self.heal_due(world, load, now);
        self.tend(world);
        if now < self.next {
            return;
        }
        self.next = now + self.random.random_range(1..=self.habits.rest_max);
        let enabled = |(bit, kind)| (self.habits.kinds >> bit & 1 == 1).then_some(kind);
        let kinds: Vec<&Kind> = KINDS.iter().enumerate().filter_map(enabled).collect();
        if kinds.is_empty() {
            return;
        }
        let kind = kinds[self.random.random_range(0..kinds.len())];
        self.strike(kind, world, load);
    }

    /// Looks after disks that were lost or damaged: what is whole again, and what has to be replaced.
    pub fn tend(&mut self, world: &mut World) {
        faults::tend(&mut self.field(world, 0));
    }

    /// Undoes everything, and starts what is down.
    pub fn heal_all(&mut self, world: &mut World, load: &Load) {
        self.heal_due(world, load, Millis::MAX);
        for machine in &mut world.machines {
            machine.set_wall_offset(0);
            machine.come_back();
        }
    }

    /// What was lost and is not made again yet, in words.
    pub fn lacks(&self) -> Vec<String> {
        self.wounds.lacks()
    }

    fn field<'a>(&'a mut self, world: &'a mut World, length: Millis) -> Field<'a> {
        let aim = Vec::new();
        Field {
            world,
            random: &mut self.random,
            wounds: &mut self.wounds,
            operator: &self.operator,
            length,
            aim,
        }
    }

    /// Whom the next fault finds more often than others.
    fn aimed(&self, world: &World) -> Vec<HostId> {
        let (Aim::Leader(place) | Aim::Followers(place) | Aim::Replica(place)) = self.habits.aim else {
            return Vec::new();
        };
        let newest = world.watch.newest();
        let partitions: Vec<_> = newest.partitions().collect();
        let Some((_, known)) = partitions.get(place % partitions.len().max(1)) else { return Vec::new() };
        let is_aimed = |node: u32| {
            let leads = known.leader == Some(NodeId::new(node));
            let Some(at) = known.replicas.iter().position(|replica| *replica == NodeId::new(node)) else {
                return false;
            };
            match self.habits.aim {
                Aim::Anybody => false,
                Aim::Leader(_) => leads,
                Aim::Followers(_) => !leads,
                Aim::Replica(place) => at == place % known.replicas.len(),
            }
        };
        let aimed = world.machines.iter().filter(|machine| match machine.role {
            Role::Broker(node) => is_aimed(node),
            Role::Controller(_) | Role::Client => false,
        });
        aimed.map(|machine| machine.id).collect()
    }

    fn heal_due(&mut self, world: &mut World, load: &Load, now: Millis) {
        let (due, lasting) =
            std::mem::take(&mut self.lasting).into_iter().partition(|lasting| lasting.until <= now);
        self.lasting = lasting;
        let due: Vec<Lasting> = due;
        for Lasting { number, mut fault, .. } in due {
            fault.heal(&mut self.field(world, 0));
            load.recorder().fault_ends(number, at());
        }
    }

    fn length(&mut self) -> Millis {
        // Many short ones, some long ones.
        let max = if self.random.random_bool(0.7) { self.habits.last_max / 5 } else { self.habits.last_max };
        self.random.random_range(1..=max.max(1))
    }

    fn strike(&mut self, kind: &Kind, world: &mut World, load: &Load) {
        let length = self.length();
        let aim = self.aimed(world);
        let mut fault = (kind.make)();
        let mut field = Field { aim, ..self.field(world, length) };
        let Some(struck) = fault.strike(&mut field) else { return };
        *self.counts.entry(kind.name).or_default() += 1;
        let numbers: Vec<u64> = struck.hosts.iter().map(|host| host.0).chain([length]).collect();
        let names: Vec<String> = struck.hosts.iter().map(ToString::to_string).collect();
        let detail = format!("{} for {length} ms; {}", names.join(", "), struck.detail);
        crate::trace::note("fault", &numbers, format_args!("{} {detail}", kind.name));
        let begins = FaultBegins {
            fault: FaultRef::new(0),
            kind: kind.name.to_owned(),
            nodes: struck.hosts.iter().map(|host| NodeId::new(host.0 as u32)).collect(),
            detail,
            leads: Vec::new(),
            at: at(),
        };
        let number = load.recorder().fault_begins(begins);
        self.lasting.push(Lasting { until: clock::now() + length, number, fault });
    }
}

fn at() -> At {
    At::nanos(clock::now() * 1_000_000)
}
