//! The same seed gives the same run, in two processes, to the byte.

use std::process::Command;

fn run(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_vltava-sim")).args(args).output();
    let output = output.expect("the simulator can be started");
    let text = String::from_utf8(output.stdout).expect("the simulator prints text");
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let args = ["--seed", "7", "--seconds", "3", "--trace"];
    let (one, other) = (run(&args), run(&args));
    let differs = one.lines().zip(other.lines()).position(|(one, other)| one != other);
    assert_eq!(differs, None, "the runs of seed 7 part at line {differs:?} of their traces");
    assert_eq!(one, other);
    assert!(one.lines().count() > 5_000, "something happened in it: {}", one.lines().count());
}

#[test]
fn another_seed_gives_another_trace() {
    let last = |seed: &str| run(&["--seed", seed, "--seconds", "1"]).lines().last().map(str::to_owned);
    assert_ne!(last("1"), last("2"));
}
