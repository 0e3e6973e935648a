//! All machines and the time that they share: step by step, each step in another order.

use rand::RngExt;
use rand::seq::SliceRandom;
use vltava_model::NodeId;
use vltava_storage::{CrashMode, MemoryStorage};

use crate::baton;
use crate::clock::{self, Millis};
use crate::disk::{Pace, SimDisk};
use crate::host::{self, HostId, Program};
use crate::invariants::{Violation, Watch};
use crate::machine::{End, Excuse, Machine, Role};
use crate::net;
use crate::programs;
use crate::random::{self, Random};
use crate::trace;

/// See the module.
pub struct World {
    /// The machines, by their numbers less one.
    pub machines: Vec<Machine>,
    random: Random,
    order: Vec<usize>,
    step: Millis,
    /// How long syncs take where nothing is wrong.
    pub pace: Pace,
    /// Processes that ended themselves, other than when they were told to.
    pub deaths: Vec<Death>,
    /// What must hold all the time.
    pub watch: Watch,
}

/// A process that ended itself.
#[derive(Clone, Debug)]
pub struct Death {
    /// When.
    pub at: Millis,
    /// Where.
    pub host: HostId,
    /// Why, in its own words.
    pub why: String,
    /// What faults explain it.
    pub excuses: Vec<Excuse>,
}

impl World {
    /// Machines that are all off. Once in a process.
    pub fn new(seed: u64, watch: Watch) -> Self {
        let mut random = random::stream(seed, "world");
        let step = random.random_range(2..=10);
        baton::install(seed, baton::Habits { hold_permille: 5, hold_max: 20 });
        net::create(seed, net::Habits { latency_min: step, latency_max: step + random.random_range(0..=10) });
        net::install();
        let pace = Pace { slow_permille: random.random_range(0..300), slow_max: random.random_range(1..20) };
        let mut machines = Vec::new();
        let mut add = |name: String, role| {
            let id = HostId(machines.len() as u64 + 1);
            machines.push(Machine::new(id, &name, role, SimDisk::new(seed, id, pace)));
        };
        (1..=programs::CONTROLLERS)
            .for_each(|node| add(programs::controller_name(node), Role::Controller(node)));
        programs::broker_nodes().for_each(|node| add(programs::broker_name(node), Role::Broker(node)));
        add("w1".into(), Role::Client);
        add("w2".into(), Role::Client);
        add("a1".into(), Role::Client);
        add(programs::OPERATOR.into(), Role::Client);
        let order = (0..machines.len()).collect();
        Self { machines, random, order, step, pace, deaths: Vec::new(), watch }
    }

    /// A machine by its number.
    pub fn machine(&mut self, id: HostId) -> &mut Machine {
        &mut self.machines[id.0 as usize - 1]
    }

    /// All machines.
    pub fn everybody(&self) -> Vec<HostId> {
        self.machines.iter().map(|machine| machine.id).collect()
    }

    /// The machines of controllers and brokers.
    pub fn cluster(&self) -> Vec<HostId> {
        let cluster = self.machines.iter().filter(|machine| machine.role != Role::Client);
        cluster.map(|machine| machine.id).collect()
    }

    /// How many processes ended themselves on a machine.
    pub fn deaths_of(&self, id: HostId) -> usize {
        self.deaths.iter().filter(|death| death.host == id).count()
    }

    /// Runs a program on a client's machine.
    pub fn run_on(&mut self, name: &str, program: Program) {
        let id = host::find(name).expect("the machines have their names from the beginning");
        self.machine(id).run(program);
    }

    /// Ends a process, to be started again after `rest`, if ever.
    pub fn end(&mut self, id: HostId, end: End, rest: Option<Millis>) {
        let random = &mut self.random;
        self.machines[id.0 as usize - 1].end(random, end, rest);
    }

    /// Ends a process for good.
    pub fn leave(&mut self, id: HostId) {
        let random = &mut self.random;
        self.machines[id.0 as usize - 1].leave(random);
    }

    /// Brokers that have left for good.
    pub fn gone(&self) -> Vec<NodeId> {
        let gone = self.machines.iter().filter(|machine| machine.is_gone());
        let nodes = gone.filter_map(|machine| match machine.role {
            Role::Broker(node) => Some(NodeId::new(node)),
            Role::Controller(_) | Role::Client => None,
        });
        nodes.collect()
    }

    /// Ends a process and gives its machine another disk, to be started again after `rest`.
    pub fn replace_disk(&mut self, id: HostId, contents: MemoryStorage, rest: Millis) {
        self.end(id, End::Kill, Some(rest));
        let random = &mut self.random;
        let machine = &mut self.machines[id.0 as usize - 1];
        machine.replace_disk(random, contents);
        if let Role::Broker(node) = machine.role {
            self.watch.forget_disk(NodeId::new(node));
        }
    }

    /// Starts all daemons.
    pub fn start_all(&mut self) {
        for machine in self.machines.iter_mut().filter(|machine| machine.role != Role::Client) {
            machine.start();
        }
    }

    /// One step of every machine.
    ///
    /// # Errors
    /// What does not hold after the step of one of them.
    pub fn step(&mut self) -> Result<(), Violation> {
        let until = clock::now() + self.step;
        self.order.shuffle(&mut self.random);
        for place in self.order.clone() {
            let machine = &mut self.machines[place];
            let death = machine.step(until);
            self.watch.look(machine)?;
            if let Some(why) = death {
                trace::note("death", &[machine.id.0], format_args!("{}: {why}", machine.id));
                if let (programs::LET_GO, Role::Broker(node)) = (why.as_str(), machine.role) {
                    self.watch.left(NodeId::new(node))?;
                }
                let excuses = machine.excuses();
                let rest = self.random.random_range(100..3000);
                let end = match excuses.contains(&Excuse::DiskErrors) {
                    true => End::PowerCut(CrashMode::LoseUnsynced),
                    false => End::Kill,
                };
                machine.end(&mut self.random, end, Some(rest));
                let (at, host) = (until, machine.id);
                let in_order = [programs::ENDED_IN_ORDER, programs::LET_GO].contains(&why.as_str());
                if !in_order || !excuses.contains(&Excuse::Told) {
                    self.deaths.push(Death { at, host, why, excuses });
                }
            }
        }
        clock::set(until);
        Ok(())
    }

    /// What there is to see.
    pub fn summary(&self) -> String {
        let mut words = format!("{:>6} ms", clock::now());
        for machine in &self.machines {
            let window = machine.window();
            if let Some(controller) = &window.controller {
                let metrics = controller.metrics();
                words += &format!(
                    " {}[term {} leader {:?} brokers {}/{}]",
                    machine.id,
                    metrics.term,
                    metrics.leader.map(|node| node.get()),
                    metrics.active_brokers,
                    metrics.brokers
                );
            }
            if let Some(broker) = &window.broker {
                words += &format!(" {}[{} at {}]", machine.id, broker.is_active(), broker.image().offset());
            }
        }
        let images = self
            .machines
            .iter()
            .filter_map(|machine| Some(machine.window().controller.as_ref()?.published().image()));
        let Some(image) = images.max_by_key(|image| image.offset()) else { return words };
        for (partition, known) in image.partitions() {
            words += &format!("\n{partition}: {known:?}");
        }
        words
    }
}
