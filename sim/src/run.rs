//! One run: the cluster forms, clients work while things go wrong, everything heals, everything is read, and then what must
//! hold is checked.

use rand::RngExt;
use vltava_history::check;
use vltava_history::format::Reader;
use vltava_model::TopicPartition;

use crate::clock::{self, Millis};
use crate::invariants::{LogAgreement, Watch};
use crate::load::{self, Load};
use crate::nemesis::{self, Nemesis};
use crate::random;
use crate::world::World;

/// How long the cluster may take to form, and to be whole again after the last fault.
const WHOLE_MAX: Millis = 60_000;

/// One of so many seeds may take long.
const LONG_RUNS: u32 = 10;

/// In one of so many seeds nothing but clocks goes wrong.
const ONLY_CLOCKS: u32 = 32;

/// How often the logs of all replicas are compared.
const COMPARE_EVERY: Millis = 20_000;

/// How long nothing happens before they must be equal to their ends.
const QUIET: Millis = 3_000;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// How long things go wrong; by the seed when it is not given.
    pub duration: Option<Millis>,
    /// Whether every event is printed.
    pub trace: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What must not have happened, in words.
    pub problems: Vec<String>,
    /// What was done, in words.
    pub summary: String,
}

/// Runs a plan. Once in a process.
pub fn run(plan: Plan) -> Outcome {
    let mut random = random::stream(plan.seed, "plan");
    // Short runs find most of what there is to be found, and some things take long: see docs/reliability.md.
    let longest = if random.random_ratio(1, LONG_RUNS) { 180_000 } else { 40_000 };
    let drawn = random.random_range(10_000..longest);
    let duration = plan.duration.unwrap_or(drawn);
    let load = Load::new(
        plan.seed,
        load::Habits {
            topics: random.random_range(1..=3),
            partitions: random.random_range(1..=4),
            rest_max: random.random_range(100..=2000),
            burst_max: random.random_range(1..=20),
            admin_rest_max: random.random_range(2_000..=20_000),
            delivery: random.random_range(10_000..=40_000),
        },
    );
    let habits = nemesis::Habits::draw(&mut random);
    let only_clocks = random.random_ratio(1, ONLY_CLOCKS);
    let habits = if only_clocks { habits.only_clocks() } else { habits };
    let mut world = World::new(plan.seed, Watch::new(load.shown()));
    let mut nemesis = Nemesis::new(plan.seed, habits);
    let mut outcome = Outcome::default();
    if let Err(problem) = course(&mut world, &load, &mut nemesis, duration, only_clocks) {
        outcome.problems.push(format!("{problem}\n{}", world.summary()));
    }
    outcome.problems.extend(load.complaints());
    let verdict = judge(&load, &mut outcome.problems);
    let wrongful = world.deaths.iter().filter(|death| death.excuses.is_empty());
    outcome.problems.extend(wrongful.map(|death| {
        format!("{} ended itself at {} ms, and no fault explains it: {}", death.host, death.at, death.why)
    }));
    let deaths = world.deaths.iter().map(|death| format!(" {}: {};", death.host, death.why));
    outcome.summary = format!(
        "{} acked; {verdict}; faults {:?}; processes that ended themselves: {}{}",
        load.acked(),
        nemesis.counts(),
        world.deaths.len(),
        deaths.collect::<String>()
    );
    outcome
}

fn course(
    world: &mut World,
    load: &Load,
    nemesis: &mut Nemesis,
    duration: Millis,
    only_clocks: bool,
) -> Result<(), String> {
    world.start_all();
    nemesis.start_operator(world);
    world.run_on("a1", load.administrator());
    wait(world, nemesis, WHOLE_MAX, |_, _| load.is_prepared(), |_, _| "the cluster did not form".to_owned())?;
    world.run_on("w1", load.worker(1));
    world.run_on("w2", load.worker(2));
    let end = clock::now() + duration;
    let mut compare_at = clock::now() + COMPARE_EVERY;
    let mut calm = None;
    while clock::now() < end {
        nemesis.act(world, load);
        world.step()?;
        if clock::now() >= compare_at {
            compare_at += COMPARE_EVERY;
            world.watch.compare_logs(&world.machines, LogAgreement::Committed)?;
        }
        match &calm {
            None if only_clocks => calm = world.watch.calm(),
            None => {}
            Some(calm) => world.watch.is_still(calm)?,
        }
    }
    nemesis.heal_all(world, load);
    let healed = clock::now();
    wait(
        world,
        nemesis,
        WHOLE_MAX,
        |_, _| load.silent_since(healed).is_empty(),
        |_, _| format!("{WHOLE_MAX} ms after healing these take no writes: {:?}", load.silent_since(healed)),
    )?;
    wait(
        world,
        nemesis,
        WHOLE_MAX,
        |_, nemesis| nemesis.lacks().is_empty(),
        |_, nemesis| format!("{WHOLE_MAX} ms after that: {}", nemesis.lacks().join("; ")),
    )?;
    load.stop();
    let ended = |_: &World, _: &Nemesis| load.has_ended();
    wait(world, nemesis, 3 * WHOLE_MAX, ended, |_, _| "clients do not end".to_owned())?;
    world.end(crate::host::find("a1").expect("it has its name"), crate::machine::End::Kill, None);
    world.run_on("a1", load.last_reader(2 * WHOLE_MAX));
    wait(world, nemesis, 3 * WHOLE_MAX, ended, |_, _| "the last reading does not end".to_owned())?;
    wait(
        world,
        nemesis,
        WHOLE_MAX,
        |world, _| out_of_sync(world).is_empty(),
        |world, _| {
            format!(
                "{WHOLE_MAX} ms after the last reading these are not in sync everywhere: {:?}",
                out_of_sync(world)
            )
        },
    )?;
    let quiet = clock::now() + QUIET;
    wait(world, nemesis, 2 * QUIET, |_, _| clock::now() >= quiet, |_, _| "time stands still".to_owned())?;
    world.watch.compare_logs(&world.machines, LogAgreement::Whole)
}

/// Partitions that some replica is behind in.
fn out_of_sync(world: &World) -> Vec<String> {
    let newest = world.watch.newest();
    let gone = world.gone();
    let lacks = |of: &TopicPartition| {
        let Some(known) = newest.partition(*of) else { return false };
        known.replicas.iter().any(|node| !known.isr.contains(node) && !gone.contains(node))
    };
    newest.under_replicated_partitions().filter(lacks).map(|of| of.to_string()).collect()
}

/// Runs until something is so; when that takes too long, says what `problem` says.
fn wait(
    world: &mut World,
    nemesis: &mut Nemesis,
    limit: Millis,
    is: impl Fn(&World, &Nemesis) -> bool,
    problem: impl Fn(&World, &Nemesis) -> String,
) -> Result<(), String> {
    let deadline = clock::now() + limit;
    while !is(world, nemesis) {
        if clock::now() >= deadline {
            return Err(problem(world, nemesis));
        }
        nemesis.tend(world);
        world.step()?;
    }
    Ok(())
}

/// Checks the history.
fn judge(load: &Load, problems: &mut Vec<String>) -> String {
    let now = vltava_history::At::nanos(clock::now() * 1_000_000);
    if let Err(error) = load.recorder().finish(now) {
        problems.push(format!("the history can not be written: {error}"));
    }
    let bytes = load.history();
    let mut events = Vec::new();
    match Reader::new(&bytes[..]) {
        Ok(reader) => {
            for event in reader {
                match event {
                    Ok(event) => events.push(event),
                    Err(error) => problems.push(format!("the history can not be read: {error}")),
                }
            }
        }
        Err(error) => problems.push(format!("the history can not be read: {error}")),
    }
    let verdict = check::check_events(&events, check::Options::default());
    for violation in verdict.violations.told().iter().take(5) {
        let kind = violation.kind;
        problems
            .push(format!("{kind:?} at {}: {}; {:?}", violation.place, violation.text, violation.operations));
    }
    format!("{:?}, {} events", verdict.judgement(), verdict.counts.events)
}
