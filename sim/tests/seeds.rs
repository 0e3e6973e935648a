//! The seeds that are kept, run again.

use std::process::Command;

#[test]
fn kept_seeds_pass() {
    let kept = include_str!("../seeds");
    let lines = kept.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut ran = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        let [seed, seconds] = words[..] else { panic!("'{line}' is not SEED SECONDS and why") };
        let args = ["--seed", seed, "--seconds", seconds];
        let output = Command::new(env!("CARGO_BIN_EXE_vltava-sim")).args(args).output();
        let output = output.expect("the simulator can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "replay with `cargo xtask sim --seed {seed} --seconds {seconds}`:\n{text}"
        );
        ran += 1;
    }
    assert!(ran > 0, "some seeds are kept");
}
