//! What goes wrong during a run: one fault after the other, several at once, each for a while, all by the seed.
//!
//! It breaks machines, disks and links; what must hold meanwhile is not its business.

use std::collections::BTreeMap;

use rand::RngExt;
use vltava_history::event::{At, FaultBegins, FaultRef};
use vltava_model::NodeId;
use vltava_storage::CrashMode;

use crate::clock::{self, Millis};
use crate::disk::Pace;
use crate::host::HostId;
use crate::load::Load;
use crate::machine::{End, Role};
use crate::net::{self, Traffic};
use crate::random::{self, Random};
use crate::world::World;

/// What goes wrong in a run, by the seed.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How long nothing new goes wrong at most.
    pub rest_max: Millis,
    /// How long a fault lasts at most.
    pub last_max: Millis,
    /// Which faults there are, as bits by [`Kind::ALL`].
    pub kinds: u32,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A process is killed.
    Kill,
    /// A machine loses its power.
    PowerCut,
    /// All machines of the cluster lose their power at once.
    Blackout,
    /// A process is not scheduled.
    Pause,
    /// One machine is cut off from the others.
    Isolate,
    /// Things pass in one direction only.
    OneWay,
    /// Connections break.
    Reset,
    /// Everything from and to one machine takes long.
    SlowNet,
    /// Syncs take long.
    SlowDisk,
    /// A wall clock jumps.
    Clock,
}

impl Habits {
    /// Nothing but wall clocks that jump.
    pub fn only_clocks(self) -> Self {
        let place = Kind::ALL.iter().position(|kind| *kind == Kind::Clock).expect("all are in it");
        Self { kinds: 1 << place, ..self }
    }
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Kill,
        Self::PowerCut,
        Self::Blackout,
        Self::Pause,
        Self::Isolate,
        Self::OneWay,
        Self::Reset,
        Self::SlowNet,
        Self::SlowDisk,
        Self::Clock,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power cut",
            Self::Blackout => "blackout",
            Self::Pause => "pause",
            Self::Isolate => "isolation",
            Self::OneWay => "one-way partition",
            Self::Reset => "reset",
            Self::SlowNet => "slow network",
            Self::SlowDisk => "slow disk",
            Self::Clock => "clock step",
        }
    }
}

/// A fault that lasts.
struct Lasting {
    until: Millis,
    fault: FaultRef,
    heal: Heal,
}

/// How a fault is undone.
enum Heal {
    /// By itself.
    None,
    Links(Vec<(HostId, HostId)>),
    Disk(HostId),
}

/// See the module.
pub struct Nemesis {
    habits: Habits,
    random: Random,
    next: Millis,
    lasting: Vec<Lasting>,
    counts: BTreeMap<&'static str, u32>,
}

impl Nemesis {
    /// It begins some time after now.
    pub fn new(seed: u64, habits: Habits) -> Self {
        let mut random = random::stream(seed, "nemesis");
        let next = clock::now() + random.random_range(1..=habits.rest_max);
        Self { habits, random, next, lasting: Vec::new(), counts: BTreeMap::new() }
    }

    /// How often what went wrong.
    pub fn counts(&self) -> &BTreeMap<&'static str, u32> {
        &self.counts
    }

    /// Breaks and heals what is due.
    pub fn act(&mut self, world: &mut World, load: &Load) {
        let now = clock::now();
        self.heal_due(world, load, now);
        if now < self.next {
            return;
        }
        self.next = now + self.random.random_range(1..=self.habits.rest_max);
        let enabled = |(bit, kind): (usize, Kind)| (self.habits.kinds >> bit & 1 == 1).then_some(kind);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().enumerate().filter_map(enabled).collect();
        if kinds.is_empty() {
            return;
        }
        let kind = kinds[self.random.random_range(0..kinds.len())];
        self.break_something(kind, world, load);
    }

    /// Undoes everything, and starts what is down.
    pub fn heal_all(&mut self, world: &mut World, load: &Load) {
        self.heal_due(world, load, Millis::MAX);
        for machine in &mut world.machines {
            machine.set_wall_offset(0);
            machine.come_back();
        }
    }

    fn heal_due(&mut self, world: &mut World, load: &Load, now: Millis) {
        let (due, lasting) =
            std::mem::take(&mut self.lasting).into_iter().partition(|lasting| lasting.until <= now);
        self.lasting = lasting;
        let due: Vec<Lasting> = due;
        for Lasting { fault, heal, .. } in due {
            match heal {
                Heal::None => {}
                Heal::Links(links) => {
                    for (from, to) in links {
                        net::change_link(from, to, |link| {
                            link.traffic = Traffic::Flows;
                            link.extra = 0;
                        });
                    }
                }
                Heal::Disk(host) => {
                    let pace = world.pace;
                    world.machine(host).disk.set_pace(pace);
                }
            }
            load.recorder().fault_ends(fault, at());
        }
    }

    /// A machine of the cluster that runs.
    fn victim(&mut self, world: &World) -> Option<HostId> {
        let up = world.machines.iter().filter(|machine| machine.is_up() && machine.role != Role::Client);
        let up: Vec<HostId> = up.map(|machine| machine.id).collect();
        if up.is_empty() { None } else { Some(up[self.random.random_range(0..up.len())]) }
    }

    fn length(&mut self) -> Millis {
        // Many short ones, some long ones.
        let max = if self.random.random_bool(0.7) { self.habits.last_max / 5 } else { self.habits.last_max };
        self.random.random_range(1..=max.max(1))
    }

    fn crash_mode(&mut self) -> CrashMode {
        [CrashMode::LoseUnsynced, CrashMode::Reorder, CrashMode::Tear][self.random.random_range(0..3)]
    }

    fn break_something(&mut self, kind: Kind, world: &mut World, load: &Load) {
        let Some(victim) = self.victim(world) else { return };
        let length = self.length();
        let mut nodes = vec![victim];
        let heal = match kind {
            Kind::Kill => {
                world.end(victim, End::Kill, Some(length));
                Heal::None
            }
            Kind::PowerCut => {
                let mode = self.crash_mode();
                world.end(victim, End::PowerCut(mode), Some(length));
                Heal::None
            }
            Kind::Blackout => {
                nodes = world.cluster();
                for host in nodes.clone() {
                    let mode = self.crash_mode();
                    let rest = length + self.random.random_range(0..2000);
                    world.end(host, End::PowerCut(mode), Some(rest));
                }
                Heal::None
            }
            Kind::Pause => {
                world.machine(victim).pause(length);
                Heal::None
            }
            Kind::Isolate | Kind::OneWay | Kind::SlowNet => Heal::Links(self.harm_links(kind, victim, world)),
            Kind::Reset => {
                let permille = self.random.random_range(100..=1000);
                for other in world.everybody().into_iter().filter(|other| *other != victim) {
                    net::reset_connections(victim, other, permille);
                }
                Heal::None
            }
            Kind::SlowDisk => {
                let slow_max = self.random.random_range(20..3000);
                world.machine(victim).disk.set_pace(Pace { slow_permille: 900, slow_max });
                Heal::Disk(victim)
            }
            Kind::Clock => {
                let day = 86_400_000;
                let offset = self.random.random_range(-3650 * day..3650 * day);
                world.machine(victim).set_wall_offset(offset);
                Heal::None
            }
        };
        *self.counts.entry(kind.name()).or_default() += 1;
        let begins = FaultBegins {
            fault: FaultRef::new(0),
            kind: kind.name().to_owned(),
            nodes: nodes.iter().map(|host| NodeId::new(host.0 as u32)).collect(),
            detail: format!("{victim} for {length} ms"),
            leads: Vec::new(),
            at: at(),
        };
        crate::trace::note(
            "fault",
            &[victim.0, length],
            format_args!("{} {victim} for {length} ms", kind.name()),
        );
        let fault = load.recorder().fault_begins(begins);
        self.lasting.push(Lasting { until: clock::now() + length, fault, heal });
    }

    /// Harms links between a machine and some of the others.
    fn harm_links(&mut self, kind: Kind, victim: HostId, world: &World) -> Vec<(HostId, HostId)> {
        let some = self.random.random_range(1..=3u32);
        let outwards = self.random.random_bool(0.5);
        let mut links = Vec::new();
        for other in world.everybody().into_iter().filter(|other| *other != victim) {
            if self.random.random_range(0..3) >= some {
                continue;
            }
            match kind {
                Kind::OneWay if outwards => links.push((victim, other)),
                Kind::OneWay => links.push((other, victim)),
                _ => links.extend([(victim, other), (other, victim)]),
            }
        }
        let extra = self.random.random_range(20..1500);
        for (from, to) in &links {
            net::change_link(*from, *to, |link| match kind {
                Kind::SlowNet => link.extra = extra,
                _ => link.traffic = Traffic::Stalls,
            });
        }
        links
    }
}

fn at() -> At {
    At::nanos(clock::now() * 1_000_000)
}
