//! One program for all targets: `VLTAVA_FUZZ_TARGET` says which one libFuzzer gives its inputs to.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vltava_fuzz::allocations::Counting;
use vltava_fuzz::{TARGETS, Target, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("VLTAVA_FUZZ_TARGET").expect("VLTAVA_FUZZ_TARGET names a target");
    TARGETS.iter().find(|target| target.name == name).expect("VLTAVA_FUZZ_TARGET names a target that there is")
});

/// Writes the target's own inputs where libFuzzer will read them.
fn write_seeds() {
    let Some(dir) = std::env::var_os("VLTAVA_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed).expect("seeds can be written");
    }
}

fuzz_target!(init: write_seeds(), |input: &[u8]| run(&TARGET, input));
