//! The summary for a terminal.

use std::fmt::Write;

use super::tables::{at_work, utc};
use super::{duration, maybe, page, quantile, recoveries_by_kind, thousands};
use crate::check::{Counts, Verdict};

/// How many gaps and violations are told.
const GAPS_TOLD: usize = 3;
const VIOLATIONS_TOLD: usize = 10;

/// Every count with its name.
pub(super) fn rows(counts: &Counts) -> Vec<(&'static str, u64)> {
    // Taken apart, so that a count that is added is shown.
    let Counts {
        events,
        acked,
        verified,
        unread,
        deleted,
        trimmed,
        damaged,
        acked_weakly,
        weakly_lost,
        unanswered,
        unknown,
        unknown_appeared,
        unknown_absent,
        failed,
        repeated,
        reordered,
        polls,
        read_along,
        read_finally,
        admin,
        faults,
        watermark_regressions,
    } = *counts;
    vec![
        ("acknowledged by all in-sync replicas", acked),
        ("of these read back where acknowledged", verified),
        ("of these not read, for the final read stopped short", unread),
        ("of these gone with their topic", deleted),
        ("of these removed by request or retention", trimmed),
        ("of these read as something else", damaged),
        ("acknowledged by the leader alone", acked_weakly),
        ("of these gone, which is allowed", weakly_lost),
        ("sent without asking for an answer", unanswered),
        ("of unknown outcome", unknown),
        ("of these read", unknown_appeared),
        ("of these not read", unknown_absent),
        ("failed for certain", failed),
        ("repeated by plain producers, which is allowed", repeated),
        ("reordered by plain producers, which is allowed", reordered),
        ("read beside the load", read_along),
        ("read finally", read_finally),
        ("answers to consumers", polls),
        ("high watermarks told lower than before", watermark_regressions),
        ("operations of administrators", admin),
        ("faults", faults),
        ("events in the history", events),
    ]
}

/// The verdict in some forty lines.
pub fn summary(verdict: &Verdict) -> String {
    let mut text = String::new();
    write_summary(&mut text, verdict).expect("a string takes everything");
    text
}

fn write_summary(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    writeln!(text, "{}  {}", verdict.judgement(), page::title(verdict))?;
    if let Some(begin) = &verdict.begin {
        write!(text, "version {}, seed {}, run {}", begin.version, begin.seed, begin.run)?;
        if begin.started_unix_ms > 0 {
            write!(text, ", started {}", utc(begin.started_unix_ms / 1000))?;
        }
        writeln!(text)?;
    }
    writeln!(text, "took {}", duration(verdict.duration()))?;
    if verdict.ended.is_none() {
        writeln!(text, "the recording was cut off: what comes after its last event is not known")?;
    }
    writeln!(text)?;
    for (name, count) in rows(&verdict.counts) {
        if count > 0 {
            let indent = if name.starts_with("of these") { "  " } else { "" };
            writeln!(text, "{:>15}  {indent}{name}", thousands(count))?;
        }
    }
    write_liveness(text, verdict)?;
    write_violations(text, verdict)
}

fn write_liveness(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    let latency = verdict.figures.latency();
    let (half, most) = (maybe(latency.quantile(0.5)), maybe(latency.quantile(0.99)));
    writeln!(text, "\nrecord to ack: p50 {half}, p99 {most}")?;
    for (kind, (times, never)) in recoveries_by_kind(verdict) {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| maybe(quantile(&times, share)));
        let hit = times.len() + never;
        write!(text, "leader hit by {kind} to writable: p50 {half}, p99 {most}, longest {all}, of {hit}")?;
        writeln!(text, "{}", if never > 0 { format!("; {never} never were") } else { String::new() })?;
    }
    writeln!(text, "longest without an ack while healthy: {}", duration(verdict.liveness.longest_healthy))?;
    for gap in verdict.liveness.gaps.iter().take(GAPS_TOLD) {
        let name = verdict.liveness.names.get(&gap.partition).map_or("?", String::as_str);
        let (length, faults) = (duration(gap.length()), at_work(&verdict.faults, gap));
        writeln!(text, "  {name}: none for {length} from {}; faults at work: {faults}", gap.from)?;
    }
    Ok(())
}

fn write_violations(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    if verdict.violations.total() == 0 {
        return writeln!(text, "\nno violations");
    }
    writeln!(text, "\n{} violations", thousands(verdict.violations.total()))?;
    for (kind, count) in verdict.violations.counts() {
        writeln!(text, "{:>15}  {kind}", thousands(count))?;
    }
    for violation in verdict.violations.told().iter().take(VIOLATIONS_TOLD) {
        writeln!(text, "\n{} {}: {}", violation.kind, violation.place, violation.text)?;
        for operation in &violation.operations {
            writeln!(text, "    {operation}")?;
        }
    }
    Ok(())
}
