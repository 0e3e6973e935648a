//! What clients do, what goes wrong, and how all becomes well again.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use vltava_model::{NodeId, Offset};
use vltava_partition::{Ability, Acks, AwaitCommitted, Event, Produce, Standing, Token};

use crate::disk::{Crash, Disk};
use crate::node::Request;
use crate::oracle::Checked;
use crate::world::{Happening, MS, Micros, Process, World};

/// How bad the world is.
#[derive(Debug)]
pub struct Faults {
    pub are_on: bool,
    /// How often something breaks.
    every: Micros,
    /// How often clients send.
    clients_every: Micros,
    pub loss: f64,
    pub duplication: f64,
    /// How often a message of a broken stream arrives all the same: it sat in a queue.
    pub lateness: f64,
    /// How often a controller answers that was deposed and does not know.
    pub stale_controller: f64,
    /// How often a proposal is refused, and executed late all the same.
    pub detours: f64,
    /// Whose requests do not reach the controller.
    pub cut_off: Vec<NodeId>,
    pub slow_disk: Option<NodeId>,
}

impl Faults {
    pub fn draw(rng: &mut StdRng) -> Self {
        Self {
            are_on: true,
            every: *[30 * MS, 100 * MS, 300 * MS].choose(rng).expect("three"),
            clients_every: *[4 * MS, 15 * MS, 50 * MS].choose(rng).expect("three"),
            loss: *[0.0, 0.05, 0.3].choose(rng).expect("three"),
            duplication: *[0.0, 0.02, 0.1].choose(rng).expect("three"),
            lateness: *[0.0, 0.2, 0.9].choose(rng).expect("three"),
            stale_controller: *[0.0, 0.05, 0.4].choose(rng).expect("three"),
            detours: *[0.0, 0.0, 0.2].choose(rng).expect("three"),
            cut_off: Vec::new(),
            slow_disk: None,
        }
    }
}

impl World {
    fn any_node(&mut self) -> NodeId {
        *self.setup.replicas.choose(&mut self.rng).expect("there are nodes")
    }

    /// Breaks something, and says when the next thing breaks.
    pub fn fault(&mut self) -> Checked {
        if !self.faults.are_on {
            return Ok(());
        }
        let every = self.faults.every;
        self.later(2 * every, Happening::Fault);
        let node = self.any_node();
        let leader = self.controller.now().state.leader;
        match self.rng.random_range(0..100) {
            0..25 => self.crash_and_restart(node),
            25..33 => self.wipe(node),
            33..40 => {
                // All at once.
                for node in self.setup.replicas.clone() {
                    self.crash_and_restart(node);
                }
            }
            40..50 => {
                let streams = self.open_streams();
                if let Some(stream) = streams.choose(&mut self.rng).copied() {
                    self.cut(stream, true);
                }
            }
            50..60 => self.block(node),
            60..66 => self.network.blocked.clear(),
            66..74 => self.later(1, Happening::Fence(node)),
            74..80 => {
                self.controller.prefer(node);
                self.metadata_changed()?;
                // There and back again, so that what was sent in an epoch is heard by the same leader in another.
                if let Some(before) = leader.filter(|_| self.rng.random_bool(0.5)) {
                    self.later(100 * MS, Happening::Prefer(before));
                }
            }
            80..84 => self.tug_of_war(node),
            84..88 => self.faults.slow_disk = Some(node).filter(|_| self.rng.random_bool(0.5)),
            88..92 => {
                self.faults.cut_off.clear();
                if self.rng.random_bool(0.6) {
                    self.faults.cut_off.push(node);
                }
            }
            92..94 => {
                self.fail_disk(node)?;
            }
            94..97 => self.fill_disk(node),
            _ => return self.delete_records(node),
        }
        Ok(())
    }

    fn crash_and_restart(&mut self, node: NodeId) {
        let how = if self.rng.random_bool(0.6) && self.loses_nothing_in_a_power_cut() {
            Crash::PowerCut
        } else {
            Crash::Kill
        };
        self.crash(node, how);
        let away = *[10 * MS, 200 * MS, 1_500 * MS].choose(&mut self.rng).expect("three");
        self.later(away, Happening::Start(node));
    }

    /// A write or sync fails; the process lives on for a while and may do nothing with that disk any more.
    fn fail_disk(&mut self, node: NodeId) -> Checked {
        let Some(process) = self.nodes[&node].process() else { return Ok(()) };
        self.nodes.get_mut(&node).expect("known").disk_failed = true;
        self.step(node, Event::StorageFailed, Vec::new())?;
        self.later(50 * MS, Happening::Fence(node));
        self.later(400 * MS, Happening::End(process));
        Ok(())
    }

    /// There is no room on a disk, and there is again.
    fn fill_disk(&mut self, node: NodeId) {
        let Some(process) = self.nodes[&node].process() else { return };
        self.later(1, Happening::Room { process, ability: Ability::Hindered });
        let full = *[20 * MS, 300 * MS, 1_000 * MS].choose(&mut self.rng).expect("three");
        self.at(self.now + full, Happening::Room { process, ability: Ability::Able });
    }

    /// The process notices that it cannot go on, and is started anew.
    pub fn end(&mut self, process: Process) {
        self.crash(process.node, Crash::Kill);
        self.later(200 * MS, Happening::Start(process.node));
    }

    fn loses_nothing_in_a_power_cut(&self) -> bool {
        self.setup.settings.durability == vltava_partition::Durability::Synced
    }

    /// A disk is lost, where the promise covers that: somebody else is in sync, and no other disk was just lost.
    fn wipe(&mut self, id: NodeId) {
        let meta = self.controller.now();
        let matters = meta.state.isr.contains(&id) || meta.state.elr.contains(&id);
        let is_only = !meta.state.isr.iter().any(|node| *node != id);
        let enough = !is_only && self.oracle.wiped.is_empty() && self.setup.settings.min_insync >= 2;
        let may_be_counted = self.nodes.values().filter_map(|node| node.machine.as_ref()).any(|machine| {
            matches!(machine.standing(), Standing::Leading { .. }) && machine.may_be_in_sync(id)
        });
        if (matters || may_be_counted) && !enough {
            return;
        }
        self.crash(id, Crash::Kill);
        let directory = self.directory();
        let node = self.nodes.get_mut(&id).expect("known");
        if node.machine.is_some() {
            return;
        }
        let lost = std::mem::replace(&mut node.disk, Disk::new(directory));
        self.oracle.ghosts.push(lost.stable);
        self.oracle.wiped.insert(id);
        self.later(100 * MS, Happening::Start(id));
    }

    fn block(&mut self, node: NodeId) {
        let other = self.any_node();
        self.network.blocked.push((node, other));
        if self.rng.random_bool(0.5) {
            self.network.blocked.push((other, node));
        }
    }

    /// The leadership goes to a replica that lacks what another has, and back to who led before. The other cuts its log in
    /// between; what it said of it when it was longer arrives only now, while its disk is slow to take the same again.
    fn tug_of_war(&mut self, next: NodeId) {
        let Some(leader) = self.controller.now().state.leader else { return };
        let there = self.now + self.rng.random_range(10 * MS..200 * MS);
        let back = there + self.rng.random_range(30 * MS..200 * MS);
        let most = self.rng.random_range(50 * MS..400 * MS);
        self.network.slow.insert((leader, next), most);
        let others: Vec<_> =
            self.setup.replicas.iter().copied().filter(|node| ![leader, next].contains(node)).collect();
        if let Some(other) = others.choose(&mut self.rng).copied() {
            let until = back + self.rng.random_range(20 * MS..200 * MS);
            self.hold(other, leader, until);
            if self.rng.random_bool(0.7) {
                self.at(back, Happening::Slow(other));
            }
        }
        self.at(there, Happening::Prefer(next));
        self.at(back, Happening::Prefer(leader));
        self.at(back + 300 * MS, Happening::Hasten);
    }

    fn delete_records(&mut self, node: NodeId) -> Checked {
        let token = self.request(node, Vec::new(), Acks::None);
        let Some(token) = token else { return Ok(()) };
        let offsets = self.nodes[&node].machine.as_ref().expect("it runs").offsets();
        let (from, mut to) = (offsets.log_start.get(), offsets.high_watermark.get());
        // Also what is not committed, which must be refused.
        if self.rng.random_bool(0.2) {
            to = offsets.log_end.get();
        }
        let before = if self.rng.random_bool(0.1) {
            None
        } else {
            Some(Offset::new(self.rng.random_range(from..=to)))
        };
        self.step(node, Event::DeleteRecords { token, before }, Vec::new())
    }

    fn request(&mut self, node: NodeId, values: Vec<u64>, acks: Acks) -> Option<Token> {
        self.nodes[&node].machine.as_ref()?;
        let token = Token::new(self.number());
        let deadline = self.now + self.rng.random_range(50 * MS..2_000 * MS);
        let request = Request { values, acks, deadline };
        self.nodes.get_mut(&node).expect("known").requests.insert(token, request);
        Some(token)
    }

    /// A client sends a batch to whom it takes for the leader, or one again that it has sent before.
    pub fn client(&mut self) -> Checked {
        if !self.clients_send {
            return Ok(());
        }
        let every = self.faults.clients_every;
        self.later(2 * every, Happening::Client);
        let any = self.any_node();
        let leader = self.controller.now().state.leader.filter(|_| self.rng.random_bool(0.9)).unwrap_or(any);
        if self.rng.random_bool(0.1) {
            return self.send_again(leader);
        }
        let values = (0..self.rng.random_range(1..=3)).map(|_| self.number()).collect();
        let acks = match self.rng.random_range(0..10) {
            0 => Acks::None,
            1 | 2 => Acks::Leader,
            _ => Acks::All,
        };
        self.produce(leader, values, acks).map(|_| ())
    }

    pub fn produce(&mut self, node: NodeId, values: Vec<u64>, acks: Acks) -> Result<Option<Token>, String> {
        let records = values.len() as u32;
        if self.nodes[&node].ability == Ability::Hindered {
            // Refused before its machine hears of it.
            return Ok(None);
        }
        let Some(token) = self.request(node, values, acks) else { return Ok(None) };
        let deadline = self.nodes[&node].requests[&token].deadline;
        let deadline = vltava_partition::Time::new(std::time::Duration::from_micros(deadline));
        let expected_leader_epoch =
            self.rng.random_bool(0.2).then(|| self.controller.now().state.leader_epoch);
        let produce = Produce { token, records, acks, deadline, expected_leader_epoch };
        self.step(node, Event::Produce(produce), Vec::new())?;
        Ok(Some(token))
    }

    fn send_again(&mut self, node: NodeId) -> Checked {
        let Some(machine) = &self.nodes[&node].machine else { return Ok(()) };
        let offsets = machine.offsets();
        let leads = matches!(machine.standing(), Standing::Leading { .. });
        if !leads || offsets.log_start == offsets.log_end {
            return Ok(());
        }
        let at = Offset::new(self.rng.random_range(offsets.log_start.get()..offsets.log_end.get()));
        let value = self.nodes[&node].disk.written.get(at).expect("in the log").value;
        let Some(token) = self.request(node, vec![value], Acks::All) else { return Ok(()) };
        let deadline = self.nodes[&node].requests[&token].deadline;
        let deadline = vltava_partition::Time::new(std::time::Duration::from_micros(deadline));
        let again =
            AwaitCommitted { token, base_offset: at, end_offset: at.next(), acks: Acks::All, deadline };
        self.step(node, Event::AwaitCommitted(again), Vec::new())
    }

    /// Nothing breaks any more, and what was broken is mended.
    pub fn heal(&mut self) {
        self.faults.are_on = false;
        self.faults.slow_disk = None;
        self.faults.cut_off.clear();
        self.network.blocked.clear();
        self.network.slow.clear();
        for node in self.setup.replicas.clone() {
            self.later(100 * MS, Happening::Start(node));
            self.later(500 * MS, Happening::Start(node));
        }
        for process in self.nodes.values().filter_map(|node| node.process()).collect::<Vec<_>>() {
            self.later(300 * MS, Happening::Unfence(process));
            self.later(100 * MS, Happening::Room { process, ability: Ability::Able });
        }
    }
}
