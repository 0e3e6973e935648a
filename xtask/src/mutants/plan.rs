//! Which harness is expected to find which seeded bug, and within what bounds.

use std::time::Duration;

use super::bugs::SeededBug;

/// A test of the workspace that draws what happens from seeds, or goes through all that can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Harness {
    /// Replicas of one partition, network, disks, clients and a model of the controller.
    Partition,
    /// The controller's decisions.
    Decisions,
    /// A whole cluster in one process.
    Cluster,
    /// Log directories that are crashed.
    DirectoryCrashes,
    /// Log directories whose files are damaged.
    DirectoryDamage,
    /// Raft logs that are crashed.
    RaftLogCrashes,
}

/// How a harness is run.
pub(super) struct Recipe {
    /// As the table names it.
    pub(super) name: &'static str,
    /// The crate's folder; the package is called `vltava-<folder>`.
    pub(super) folder: &'static str,
    /// The target of `cargo test` in the package.
    pub(super) target: &'static str,
    /// The tests that make up the harness, by their whole names.
    pub(super) tests: &'static [&'static str],
    /// What bounds the run, and the variable that says so to the harness; `None` where it goes through all there is.
    pub(super) seeds: Option<(&'static str, u32)>,
    /// When it is given up.
    pub(super) patience: Duration,
}

impl Harness {
    pub(super) fn recipe(self) -> Recipe {
        match self {
            Self::Partition => Recipe {
                name: "partition simulation",
                folder: "partition",
                target: "simulation",
                tests: &["invariants_hold_and_all_recovers"],
                seeds: Some(("VLTAVA_SIM_SEEDS", 1_000)),
                patience: Duration::from_secs(600),
            },
            Self::Decisions => Recipe {
                name: "decision simulation",
                folder: "controller",
                target: "vltava_controller",
                tests: &[
                    "decide::tests::simulation::every_entry_leaves_a_legal_state_and_everything_comes_back",
                    "decide::tests::simulation::disks_that_fail_break_no_rule",
                ],
                seeds: Some(("VLTAVA_SEEDS", 1_000)),
                patience: Duration::from_secs(600),
            },
            Self::Cluster => Recipe {
                name: "cluster simulation",
                folder: "sim",
                target: "search",
                tests: &["seeds_pass"],
                seeds: Some(("VLTAVA_SIM_SEEDS", 100)),
                patience: Duration::from_secs(900),
            },
            Self::DirectoryCrashes => crash_trial(
                "crashes",
                &["a_crash_anywhere_leaves_a_log_directory_with_all_that_was_acknowledged"],
            ),
            Self::DirectoryDamage => {
                crash_trial("damage", &["damage_to_a_log_directory_is_noticed_or_means_nothing"])
            }
            Self::RaftLogCrashes => crash_trial(
                "Raft log crashes",
                &["a_crash_anywhere_leaves_a_write_ahead_log_that_starts_with_all_that_was_acknowledged"],
            ),
        }
    }
}

/// Tests of the crate `crash`.
fn crash_trial(name: &'static str, tests: &'static [&'static str]) -> Recipe {
    let seeds = Some(("VLTAVA_CRASH_RUNS", 12));
    Recipe { name, folder: "crash", target: "slice", tests, seeds, patience: Duration::from_secs(600) }
}

/// The harnesses that are to find a bug, the cheapest first.
pub(super) fn harnesses(bug: SeededBug) -> &'static [Harness] {
    match bug {
        SeededBug::TruncatesToWatermark
        | SeededBug::ComparesEndsOnly
        | SeededBug::BelievesZombieLeader
        | SeededBug::CountsFollowersOfOldEpochs
        | SeededBug::BeginsWithoutEpoch
        | SeededBug::KeepsEmptyEpochs
        | SeededBug::JoinsAtOldWatermark
        | SeededBug::ForgetsJoiningMembers
        | SeededBug::ForgetsUnansweredChange
        | SeededBug::JoinsUnderUnseenRegistration
        | SeededBug::CommitsBelowMinIsr
        | SeededBug::GoesOnAfterFailure
        | SeededBug::TakesDataBeforeAgreement
        | SeededBug::CountsDivergingFollowers
        | SeededBug::DeletesUncommitted
        | SeededBug::NeverProposesAgain
        | SeededBug::AcksBeforeSync
        | SeededBug::AcksBeforeReplication
        | SeededBug::TrustsSyncsOfCutRecords => &[Harness::Partition],
        SeededBug::AcksJournalBeforeSync => &[Harness::Cluster, Harness::DirectoryCrashes],
        SeededBug::ForgetsNewNames
        | SeededBug::RecyclesBeforeSync
        | SeededBug::IgnoresJournalFrames
        | SeededBug::ReplaysCutFrames
        | SeededBug::TrustsOldEpochFile
        | SeededBug::ForgetsLogStart
        | SeededBug::KeepsCleanMark
        | SeededBug::BelievesOldClaims => &[Harness::DirectoryCrashes],
        SeededBug::IgnoresSideChecksums => &[Harness::DirectoryDamage],
        SeededBug::AcksRaftWritesBeforeSync => &[Harness::RaftLogCrashes],
        SeededBug::AdmitsFencedMembers
        | SeededBug::AdmitsOldRegistrations
        | SeededBug::KeepsWipedReplicasEligible
        | SeededBug::TrustsUncleanRestart
        | SeededBug::ElectsOutOfSync
        | SeededBug::IgnoresPartitionEpoch
        | SeededBug::RefusesRepeatedChange
        | SeededBug::KeepsLeaderEpoch
        | SeededBug::LetsLeadersStop
        | SeededBug::RenewsEpochOfSameProcess => &[Harness::Decisions],
    }
}

/// A handful that is found within seconds: what each change is held against.
pub(super) const SLICE: &[SeededBug] = &[
    SeededBug::TruncatesToWatermark,
    SeededBug::ComparesEndsOnly,
    SeededBug::BeginsWithoutEpoch,
    SeededBug::JoinsAtOldWatermark,
    SeededBug::ForgetsJoiningMembers,
    SeededBug::CommitsBelowMinIsr,
    SeededBug::CountsDivergingFollowers,
];
