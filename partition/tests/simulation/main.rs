//! Several replicas, a model of the controller and of clients in one simulated world, drawn from a seed.
//!
//! Messages are lost, delayed, duplicated and reordered across streams; processes are killed and lose power, with or without
//! their disks; metadata, syncs and answers come late or never. The invariants of `oracle` are checked at each step, and in
//! the end, when all is healed, everything must work again and everything acknowledged must be there.
//!
//! `VLTAVA_SIM_SEED=n` runs one seed, `VLTAVA_SIM_SEEDS=n` as many from 0 on, `VLTAVA_SIM_TRACE=1` prints all that happens.

mod controller;
mod disk;
mod faults;
mod network;
mod node;
mod oracle;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use vltava_partition::{Acks, Standing};

use crate::oracle::Checked;
use crate::world::{MS, World};

/// How many seeds run when nothing else is asked for.
const SEEDS: u64 = 300;

/// What a run amounted to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Run {
    trace: u64,
    happened: u64,
    acked: u64,
    committed: u64,
    epochs: u64,
}

fn run(seed: u64) -> Result<Run, String> {
    let mut world = World::new(seed);
    world.run(2_500 * MS)?;
    world.heal();
    world.run(3_500 * MS)?;
    world.clients_send = false;
    world.run(9_000 * MS)?;
    converged(&mut world)?;
    Ok(Run {
        trace: world.trace,
        happened: world.happened,
        acked: world.oracle.acked.len() as u64,
        committed: world.oracle.committed_end().get(),
        epochs: world.controller.now().state.leader_epoch.get().into(),
    })
}

/// All replicas are in sync and have the same log, nobody waits, and new records get through.
fn converged(world: &mut World) -> Checked {
    let meta = world.controller.now().clone();
    let state = &meta.state;
    let leader = state.leader.ok_or("nobody leads")?;
    if state.isr.len() != state.replicas.len() {
        return Err(format!("only {:?} of {:?} are in sync", state.isr, state.replicas));
    }
    let value = world.number();
    world.clients_send = false;
    let token = world.produce(leader, vec![value], Acks::All)?.ok_or("the leader does not run")?;
    world.run(world.now + 400 * MS)?;
    if world.nodes[&leader].requests.contains_key(&token) {
        return Err("a new batch is not acknowledged".into());
    }
    if !world.oracle.acked.values().any(|acked| *acked == value) {
        return Err("a new batch is refused".into());
    }
    let end = world.nodes[&leader].disk.written.end();
    for node in world.nodes.values() {
        let machine = node.machine.as_ref().ok_or("a node does not run")?;
        let offsets = machine.offsets();
        let in_line = node.disk.written.end() == end && offsets.high_watermark == end;
        if !in_line || matches!(machine.standing(), Standing::Idle | Standing::Failed) {
            return Err(format!(
                "{} is {:?} at {offsets:?}, the log ends at {end}",
                node.id,
                machine.standing()
            ));
        }
        if let Some((token, request)) = node.requests.first_key_value() {
            return Err(format!("{token:?} of {} was never answered: {request:?}", node.id));
        }
        world.oracle.nothing_is_lost(&node.disk.written)?;
    }
    Ok(())
}

/// Runs a seed, and says how to run it again when it fails.
fn must_hold(seed: u64) -> Run {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
    let why = match outcome {
        Ok(Ok(run)) => return run,
        Ok(Err(why)) => why,
        Err(_) => "it panicked, see above".to_owned(),
    };
    panic!(
        "seed {seed}: {why}\nreplay: VLTAVA_SIM_SEED={seed} cargo test -p vltava-partition --test simulation -- --nocapture"
    );
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plants the bug that is asked for, in builds that hold bugs.
fn plant() {
    let bug = std::env::var(vltava_model::seeded::VARIABLE).ok();
    vltava_model::seeded::plant(bug.as_deref()).expect("a bug that this build holds");
}

#[test]
fn invariants_hold_and_all_recovers() {
    plant();
    let seeds = match (number("VLTAVA_SIM_SEED"), number("VLTAVA_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(SEEDS),
    };
    let mut sum = Run::default();
    for seed in seeds.clone() {
        let run = must_hold(seed);
        sum.happened += run.happened;
        sum.acked += run.acked;
        sum.committed += run.committed;
        sum.epochs += run.epochs;
    }
    println!(
        "{} seeds: {} happenings, {} leader epochs, {} records committed, {} acknowledged",
        seeds.end - seeds.start,
        sum.happened,
        sum.epochs,
        sum.committed,
        sum.acked
    );
    // A world in which nothing goes through proves nothing.
    assert!(sum.acked > 20 * (seeds.end - seeds.start), "hardly anything was acknowledged");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in [1, 7, 42] {
        assert_eq!(must_hold(seed), must_hold(seed));
    }
}
