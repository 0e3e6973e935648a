//! Replays what fuzzing found: every committed input, every seed, and a few thousand changes of them.
//!
//! `cargo xtask fuzz` looks further. A failure names the input: a file, or a seed and the number of its change.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use vltava_fuzz::allocations::Counting;
use vltava_fuzz::{TARGETS, Target, mutate, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many changed inputs each target is given; `VLTAVA_FUZZ_CHANGES` says otherwise.
const CHANGES: u64 = 500;

fn changes() -> u64 {
    std::env::var("VLTAVA_FUZZ_CHANGES")
        .map_or(CHANGES, |text| text.parse().expect("VLTAVA_FUZZ_CHANGES is a number"))
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    let committed = files
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("it can be read")));
    let seeds = (target.seeds)().into_iter().enumerate().map(|(at, seed)| (format!("seed {at}"), seed));
    seeds.chain(committed).collect()
}

fn must_return(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(target, input))).is_err() {
        panic!("{}: {what} fails, {} bytes: {input:?}", target.name, input.len());
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is one");
    let inputs = corpus(target);
    for (what, input) in &inputs {
        must_return(target, what, input);
    }
    for change in 0..changes() {
        let pick = |salt: u64| &inputs[(change.wrapping_mul(2_654_435_761) ^ salt) as usize % inputs.len()];
        let (one, other) = (pick(0), pick(0x55));
        let changed = mutate::mutated(&one.1, &other.1, change);
        must_return(target, &format!("change {change} of {}", one.0), &changed);
    }
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

#[cfg(feature = "cluster")]
replays!(batch, checkpoint, config, history, journal, log, messages, metadata, raft, wal);
#[cfg(not(feature = "cluster"))]
replays!(batch, checkpoint, history, journal, log);

#[test]
fn every_target_is_replayed() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
}

#[test]
fn an_allocation_on_a_lengths_word_is_noticed() {
    let trusting = Target {
        name: "trusting",
        run: |input| drop(Vec::<u8>::with_capacity(usize::from(input[0]) << 20)),
        seeds: Vec::new,
        given: 0,
    };
    run(&trusting, &[0]);
    assert!(catch_unwind(|| run(&trusting, &[9])).is_err());
}

#[test]
fn the_corpora_are_small() {
    let size = |target: &Target| corpus(target).iter().map(|(_, input)| input.len()).sum::<usize>();
    let all: usize = TARGETS.iter().map(size).sum();
    assert!(all < 2 << 20, "{all} bytes");
}
