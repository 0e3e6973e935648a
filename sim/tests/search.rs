//! Seeds that nobody has looked at: one with every test, more where `VLTAVA_SIM_SEEDS` says so.

use std::process::Command;

/// How long things go wrong in each, in simulated seconds.
const SECONDS: &str = "30";

#[test]
fn seeds_pass() {
    let seeds =
        std::env::var("VLTAVA_SIM_SEEDS").map_or(1, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        let seed: u64 = seed;
        let args = ["--seed", &seed.to_string(), "--seconds", SECONDS];
        let output = Command::new(env!("CARGO_BIN_EXE_vltava-sim")).args(args).output();
        let output = output.expect("the simulator can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "\nseed {seed}: replay with `cargo xtask sim --seed {seed} --seconds {SECONDS}`:\n{text}"
        );
    }
}
