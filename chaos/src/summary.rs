//! What a run came to, in a few lines.

use std::fmt::Write as _;
use std::time::Duration;

use vltava_history::At;
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
/// A recovery that takes longer than this is told of, and so many of them are.
const SLOW: Duration = Duration::from_millis(1_500);
const SLOW_TOLD: usize = 20;
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

    /// From when such a fault struck a leader to the first ack of a record handed over after it.
    fn recoveries(&self, kind: &'static str) -> impl Iterator<Item = (&Recovery, Duration)> {
        let of_kind = move |recovery: &&Recovery| self.verdict.faults[recovery.fault].kind.starts_with(kind);
        let all = self.verdict.liveness.recoveries.iter().filter(of_kind);
        all.filter_map(|recovery| recovery.took.map(|took| (recovery, took)))
    }

    /// The same without the time in which other faults let nobody write.
    fn fair_recoveries(&self, kind: &'static str) -> Vec<(&Recovery, Duration)> {
        let fair = |recovery: &Recovery, took| {
            let begin = self.verdict.faults[recovery.fault].begin;
            self.tally.almanac.writable_within(recovery.fault, recovery.partition, begin, took)
        };
        self.recoveries(kind).map(|(recovery, took)| (recovery, fair(recovery, took))).collect()
    }

    /// Faults whose partitions took long, and which: to be looked for in the logs.
    fn slowest(&self, kind: &'static str) -> Vec<String> {
        let mut slow = self.fair_recoveries(kind);
        slow.retain(|(_, fair)| *fair > SLOW);
        slow.sort_by_key(|(_, fair)| std::cmp::Reverse(*fair));
        let told = slow.iter().take(SLOW_TOLD).map(|(recovery, fair)| {
            let fault = &self.verdict.faults[recovery.fault];
            let name = self.verdict.liveness.names.get(&recovery.partition);
            format!(
                "{} {:?} at {:.2}s: {} after {fair:.2?}, {:.2?} in all",
                fault.kind,
                fault.nodes,
                fault.begin.since(At::default()).as_secs_f64(),
                name.map_or("a partition", String::as_str),
                recovery.took.unwrap_or_default()
            )
        });
        told.collect()
    }

    fn write_recoveries(&self, text: &mut String) {
        for (kind, what) in [("kill", "leader killed"), ("disk-hang", "leader's disk hangs")] {
            let fair: Vec<_> = self.fair_recoveries(kind).iter().map(|(_, fair)| *fair).collect();
            if fair.is_empty() && kind != "kill" {
                continue;
            }
            let _ = writeln!(text, "{what} to writable: {}", spread(fair));
            let all = self.recoveries(kind).map(|(_, took)| took).collect();
            let _ = writeln!(text, "  with the time in which other faults let nobody write: {}", spread(all));
            for slow in self.slowest(kind) {
                let _ = writeln!(text, "  slow: {slow}");
            }
        }
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
        self.write_recoveries(&mut text);
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
