//! One run: the cluster forms, clients work while things go wrong, everything heals, everything is read, and then what must
//! hold is checked.

use rand::RngExt;
use vltava_history::check;
use vltava_history::format::Reader;

use crate::clock::{self, Millis};
use crate::load::{self, Load};
use crate::nemesis::{self, Nemesis};
use crate::random;
use crate::world::World;

/// How long the cluster may take to form, and to be whole again after the last fault.
const WHOLE_MAX: Millis = 60_000;

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
    let duration = plan.duration.unwrap_or_else(|| random.random_range(30_000..180_000));
    let load = Load::new(
        plan.seed,
        load::Habits {
            topics: random.random_range(1..=3),
            partitions: random.random_range(1..=4),
            rest_max: random.random_range(50..=800),
            burst_max: random.random_range(1..=20),
            admin_rest_max: random.random_range(2_000..=20_000),
            delivery: random.random_range(10_000..=40_000),
        },
    );
    let habits = nemesis::Habits {
        rest_max: random.random_range(500..=10_000),
        last_max: random.random_range(2_000..=20_000),
        kinds: random.random::<u32>() | random.random::<u32>(),
    };
    let mut world = World::new(plan.seed);
    let mut nemesis = Nemesis::new(plan.seed, habits);
    let mut outcome = Outcome::default();
    if let Err(problem) = course(&mut world, &load, &mut nemesis, duration) {
        outcome.problems.push(format!("{problem}\n{}", world.summary()));
    }
    outcome.problems.extend(load.complaints());
    let verdict = judge(&load, &mut outcome.problems);
    let deaths = world.deaths.iter().map(|(host, why)| format!(" {host}: {why};"));
    outcome.summary = format!(
        "{} acked; {verdict}; faults {:?}; processes that ended themselves: {}{}",
        load.acked(),
        nemesis.counts(),
        world.deaths.len(),
        deaths.collect::<String>()
    );
    outcome
}

fn course(world: &mut World, load: &Load, nemesis: &mut Nemesis, duration: Millis) -> Result<(), String> {
    world.start_all();
    world.run_on("a1", load.administrator());
    wait(world, WHOLE_MAX, |_| load.is_prepared()).map_err(|()| "the cluster did not form".to_owned())?;
    world.run_on("w1", load.worker(1));
    world.run_on("w2", load.worker(2));
    let end = clock::now() + duration;
    while clock::now() < end {
        nemesis.act(world, load);
        world.step();
    }
    nemesis.heal_all(world, load);
    let healed = clock::now();
    wait(world, WHOLE_MAX, |_| load.silent_since(healed).is_empty()).map_err(|()| {
        format!("{WHOLE_MAX} ms after healing these take no writes: {:?}", load.silent_since(healed))
    })?;
    load.stop();
    wait(world, 3 * WHOLE_MAX, |_| load.has_ended()).map_err(|()| "clients do not end".to_owned())?;
    world.end(crate::host::find("a1").expect("it has its name"), crate::machine::End::Kill, None);
    world.run_on("a1", load.last_reader(2 * WHOLE_MAX));
    wait(world, 3 * WHOLE_MAX, |_| load.has_ended()).map_err(|()| "the last reading does not end".to_owned())
}

/// Runs until something is so, or for too long.
fn wait(world: &mut World, limit: Millis, is: impl Fn(&World) -> bool) -> Result<(), ()> {
    let deadline = clock::now() + limit;
    while !is(world) {
        if clock::now() >= deadline {
            return Err(());
        }
        world.step();
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
