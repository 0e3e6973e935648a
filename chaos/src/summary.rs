//! What a run came to, in a few lines.

use std::fmt::Write as _;
use std::time::Duration;

use vltava_history::check::{Judgement, Recovery, Verdict};

use crate::disk::DiskCounts;
use crate::faults::Field;
use crate::finale::Compared;
use crate::nemesis::Tally;

/// Everything that is told.
pub struct Summary<'a> {
    /// What the checker says.
    pub verdict: &'a Verdict,
    /// What struck.
    pub tally: &'a Tally,
    /// What was struck.
    pub field: &'a Field,
    /// What the disks showed.
    pub compared: &'a Compared,
    /// How long the cluster took to be whole in the end.
    pub whole_after: Option<Duration>,
    /// What else must not have happened.
    pub violations: &'a [String],
}

/// Kinds whose strike ends a process without notice.
const KILLS: [&str; 5] = ["kill", "kill-leader", "kill-controller", "half-open", "replace-controller"];
/// Kinds that cut the network.
const CUTS: [&str; 5] = ["partition", "isolate-leader", "one-way", "bridge", "half-open"];

fn percentile(sorted: &[Duration], per_cent: usize) -> Duration {
    // Nearest rank.
    let rank = (sorted.len() * per_cent).div_ceil(100).clamp(1, sorted.len());
    sorted[rank - 1]
}

/// `p50 … p99 … max … (n)`, or that there is none.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    match times.last() {
        None => "none".to_owned(),
        Some(max) => {
            let (half, most) = (percentile(&times, 50), percentile(&times, 99));
            format!("p50 {half:.2?}  p99 {most:.2?}  max {max:.2?}  ({} partitions led)", times.len())
        }
    }
}

impl Summary<'_> {
    /// Whether everything that must hold held.
    pub fn passed(&self) -> bool {
        self.verdict.judgement() == Judgement::Pass && self.violations.is_empty()
    }

    fn times(&self, kinds: &[&str]) -> u32 {
        kinds.iter().filter_map(|kind| self.tally.struck.get(kind)).sum()
    }

    fn recoveries(&self, alone: bool) -> Vec<Duration> {
        let faults = &self.verdict.faults;
        let of_kill = |recovery: &&Recovery| {
            let hit = &faults[recovery.fault];
            let overlaps = faults.iter().enumerate().any(|(at, other)| {
                at != recovery.fault
                    && other.begin < hit.begin.plus(Duration::from_secs(5))
                    && other.end.is_none_or(|end| end.plus(Duration::from_secs(3)) > hit.begin)
            });
            hit.kind.starts_with("kill") && (!alone || !overlaps)
        };
        self.verdict.liveness.recoveries.iter().filter(of_kill).filter_map(|recovery| recovery.took).collect()
    }

    fn disks(&self) -> DiskCounts {
        let mut all = DiskCounts::default();
        for node in self.field.cluster.nodes() {
            let counts = node.disk.counts();
            all.syncs += counts.syncs;
            all.writes += counts.writes;
            all.refused += counts.refused;
        }
        all
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let counts = &self.verdict.counts;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "acknowledged {}, verified {}, gone with their topic {}, trimmed {}, unread {}; unknown {} ({} appeared), failed {}",
            counts.acked,
            counts.verified,
            counts.deleted,
            counts.trimmed,
            counts.unread,
            counts.unknown,
            counts.unknown_appeared,
            counts.failed
        );
        let _ = writeln!(
            text,
            "read along {}, read finally {}, admin operations {}",
            counts.read_along, counts.read_finally, counts.admin
        );
        let _ = writeln!(
            text,
            "faults {}: kills {}, network cuts {}, power cuts {} of one and {} of all; skipped {}",
            counts.faults,
            self.times(&KILLS),
            self.times(&CUTS),
            self.times(&["power-cut"]),
            self.times(&["power-cut-all"]),
            self.tally.skipped
        );
        let kinds = self.tally.struck.iter().map(|(kind, times)| format!("{kind} {times}"));
        let _ = writeln!(text, "  {}", kinds.collect::<Vec<_>>().join(", "));
        let disks = self.disks();
        let _ = writeln!(
            text,
            "disks: {} syncs, {} writes, {} refused",
            disks.syncs, disks.writes, disks.refused
        );
        let _ = writeln!(text, "leader killed to writable: {}", spread(self.recoveries(false)));
        let _ = writeln!(text, "  with no other fault within seconds: {}", spread(self.recoveries(true)));
        let _ = writeln!(
            text,
            "replicas on disk: {} compared, {} records the same on all",
            self.compared.replicas, self.compared.records
        );
        if let Some(whole) = self.whole_after {
            let _ = writeln!(text, "whole again {whole:.1?} after the last fault");
        }
        let _ = writeln!(
            text,
            "nodes that ended by themselves, as they should: {}",
            self.field.rightful_deaths.len()
        );
        for (kind, count) in self.verdict.violations.counts() {
            let _ = writeln!(text, "VIOLATED {kind}: {count}");
        }
        for told in self.verdict.violations.told() {
            let _ = writeln!(text, "  {} {}: {}", told.kind, told.place, told.text);
            told.operations.iter().for_each(|operation| {
                let _ = writeln!(text, "      {operation}");
            });
        }
        for violation in self.violations {
            let _ = writeln!(text, "VIOLATED {violation}");
        }
        let _ = writeln!(text, "{}", if self.passed() { "PASS" } else { "FAIL" });
        text
    }
}
