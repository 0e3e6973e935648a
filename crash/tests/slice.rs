//! A slice of what `cargo xtask crash` tries: logs survive crashes, and damage to them never loses anything silently.

use vltava_crash::count::Counts;
use vltava_crash::partition;
use vltava_crash::raft::{sled, wal};
use vltava_model::seeded;

/// Run the program with `--seed` and this number to see what failed.
const SEED: u64 = 20_261_121;

/// The variable that says how many runs are tried, for `cargo xtask mutants`.
const RUNS: &str = "VLTAVA_CRASH_RUNS";

/// How many runs are tried.
fn runs() -> u64 {
    std::env::var(RUNS).ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

/// Puts a known bug in, if one is named.
fn plant() {
    let name = std::env::var(seeded::VARIABLE).ok();
    seeded::plant(name.as_deref()).expect("the bug that is named is one");
}

fn nothing_is_lost(counts: &Counts) {
    assert_eq!(counts.lost, 0, "seed {SEED}, of {}: {:#?}", counts.tried, counts.samples);
    assert!(counts.exact > 0, "the trials try nothing: {counts:?}");
}

/// Nothing stands in the way of a log that was only crashed.
fn all_starts(run: u64, counts: &Counts) {
    let bad = counts.lost + counts.refused;
    assert_eq!(bad, 0, "\nseed {run}: of {} with seed {SEED}: {:#?}", counts.tried, counts.samples);
}

#[test]
fn a_crash_anywhere_leaves_a_log_directory_with_all_that_was_acknowledged() {
    plant();
    let mut all = 0;
    for run in 0..runs() {
        let trials = [
            partition::crashes(SEED, 700, Some(run)),
            partition::crashes_at_start(SEED, 150, Some(run)),
            partition::storm(SEED, 25, Some(run)),
        ];
        for counts in trials {
            all_starts(run, &counts);
            all += counts.ahead;
        }
    }
    assert!(all > 0, "nothing was ever under way");
}

#[test]
fn damage_to_a_log_directory_is_noticed_or_means_nothing() {
    plant();
    for run in 0..runs() {
        let seed = SEED + run;
        let trials = [
            partition::every_bit(seed, 307, None),
            partition::damage(seed, 150, (partition::Harms::One, partition::Left::Orderly), None),
            partition::damage(seed, 150, (partition::Harms::One, partition::Left::Killed), None),
        ];
        for counts in trials {
            assert_eq!(counts.lost, 0, "\nseed {run}: of {}: {:#?}", counts.tried, counts.samples);
            assert!(counts.refused > 0 && counts.exact > 0, "the trials do no harm: {counts:?}");
        }
    }
}

#[test]
fn a_crash_anywhere_leaves_a_write_ahead_log_that_starts_with_all_that_was_acknowledged() {
    plant();
    for run in 0..runs().min(20) {
        let seed = SEED + run;
        let trials = [wal::crashes(seed, 1_500), wal::crashes_at_start(seed, 400), wal::storm(seed, 1_000)];
        for counts in trials {
            all_starts(run, &counts);
            assert!(counts.ahead > 0, "nothing was under way: {counts:?}");
        }
    }
}

#[test]
fn damage_to_a_write_ahead_log_is_mended_or_refused() {
    plant();
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
