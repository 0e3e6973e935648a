//! A whole cluster in one process: the real controllers, brokers and clients on simulated time, network and disk, all of
//! it from one seed. The same seed gives the same run, to the byte.

mod args;
mod baton;
mod clock;
mod disk;
mod entropy;
mod faults;
mod host;
mod invariants;
mod load;
mod log;
mod machine;
mod nemesis;
mod net;
mod programs;
mod random;
mod run;
mod search;
mod trace;
mod world;

use std::process::ExitCode;

use args::Command;
use vltava_model::seeded;

fn main() -> ExitCode {
    if let Err(problem) = seeded::plant(std::env::var(seeded::VARIABLE).ok().as_deref()) {
        eprintln!("{}: {problem}", seeded::VARIABLE);
        return ExitCode::from(2);
    }
    match args::parse(std::env::args().skip(1)) {
        Ok(Command::Run(plan)) => run_one(plan),
        Ok(Command::Search(search)) => search::search(&search),
        Err(problem) => {
            eprintln!("{problem}\n\n{}", args::HELP);
            ExitCode::from(2)
        }
    }
}

fn run_one(plan: run::Plan) -> ExitCode {
    if plan.trace {
        trace::print();
    }
    // On a thread of its own: the keys of this thread's hash maps are not to depend on whether there is a log.
    if std::thread::spawn(log::begin).join().is_err() {
        return ExitCode::FAILURE;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The daemons are built so that a panic ends the process: nothing after it counts.
        println!("PANIC on {} at {} ms, seed {}: {panic}", host::current(), clock::now(), plan.seed);
        before(panic);
        std::process::exit(101);
    }));
    entropy::stay_on_this_processor();
    entropy::keep_memory();
    entropy::take_over(plan.seed);
    let began = entropy::real_time();
    let outcome = run::run(plan);
    let took = (entropy::real_time() - began).as_secs_f64();
    for problem in &outcome.problems {
        println!("PROBLEM {problem}");
    }
    let simulated = clock::now() / 1000;
    println!("seed {}: {}", plan.seed, outcome.summary);
    println!(
        "trace {:016x} entropy {:016x} events {} simulated_s {simulated}",
        trace::sum(),
        entropy::state(),
        trace::events()
    );
    eprintln!("{simulated} s simulated in {took:.2} s");
    // What is left is not worth the time to drop it.
    std::process::exit(if outcome.problems.is_empty() { 0 } else { 1 })
}
