//! A slice of what `cargo xtask crash` tries: logs survive crashes, and damage to them never loses anything silently.

// Each test uses a part of what the program uses.
#[allow(dead_code)]
#[path = "../examples/crash/count.rs"]
mod count;
#[allow(dead_code)]
#[path = "../examples/crash/script.rs"]
mod script;
#[allow(dead_code)]
#[path = "../examples/crash/sled.rs"]
mod sled;
#[allow(dead_code)]
#[path = "../examples/crash/wal.rs"]
mod wal;

use count::Counts;

/// Run the program with `--seed` and this number to see what failed.
const SEED: u64 = 20_261_121;

fn nothing_is_lost(counts: &Counts) {
    assert_eq!(counts.lost, 0, "seed {SEED}, of {}: {:#?}", counts.tried, counts.samples);
    assert!(counts.exact > 0, "the trials try nothing: {counts:?}");
}

#[test]
fn a_crash_anywhere_leaves_a_write_ahead_log_that_starts_with_all_that_was_acknowledged() {
    let trials = [wal::crashes(SEED, 1_500), wal::crashes_at_start(SEED, 400), wal::storm(SEED, 1_000)];
    for counts in trials {
        nothing_is_lost(&counts);
        assert_eq!(counts.refused, 0, "seed {SEED}: {:#?}", counts.samples);
        assert!(counts.ahead > 0, "nothing was under way: {counts:?}");
    }
}

#[test]
fn damage_to_a_write_ahead_log_is_mended_or_refused() {
    let trials = [
        wal::every_bit(SEED, 211),
        wal::damage(SEED, 400, wal::Harms::One),
        wal::damage(SEED, 400, wal::Harms::ManyBits),
    ];
    for counts in trials {
        nothing_is_lost(&counts);
        assert!(counts.refused > 0, "the trials do no harm: {counts:?}");
    }
}

#[test]
fn the_log_on_sled_loses_nothing_silently_either() {
    let counts = sled::power_cuts(SEED, 120);
    nothing_is_lost(&counts);
    assert!(counts.ahead > 0, "nothing was under way: {counts:?}");
    nothing_is_lost(&sled::damage(SEED, 60));
}
