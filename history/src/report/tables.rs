//! What is told in words and numbers.

use std::time::Duration;

use super::page::{Page, judgement_class, title};
use super::{duration, maybe, quantile, thousands};
use crate::check::{FaultSpan, Gap, Judgement, Kind, Verdict};

/// How many gaps are told.
const GAPS_TOLD: usize = 12;

/// The run and what became of it.
pub(super) fn head(page: &mut Page, verdict: &Verdict) {
    let judgement = verdict.judgement();
    page.raw("<header><div class=\"badge ").raw(judgement_class(judgement)).raw("\">").text(judgement);
    page.raw("</div><div><h1>").text(title(verdict)).raw("</h1><div class=\"meta\">");
    let mut meta = |name: &'static str, value: String| {
        page.raw("<span>").raw(name).raw(" <b>").text(value).raw("</b></span>");
    };
    if let Some(begin) = &verdict.begin {
        meta("version", begin.version.clone());
        meta("seed", begin.seed.to_string());
        meta("run", begin.run.to_string());
        if begin.started_unix_ms > 0 {
            meta("started", utc(begin.started_unix_ms / 1000));
        }
    }
    meta("took", duration(verdict.duration()));
    meta("events", thousands(verdict.counts.events));
    page.raw("</div>");
    if judgement == Judgement::Inconclusive {
        page.raw("<p class=\"note\">Nothing wrong was seen, but not everything was looked at: ");
        match verdict.ended {
            None => page.raw("the recording was cut off."),
            Some(_) => {
                page.text(thousands(verdict.counts.unread)).raw(" acknowledged records were not read.")
            }
        };
        page.raw("</p>");
    }
    page.raw("</div></header>\n");
}

/// Seconds since 1970 as a date and time.
pub(super) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The figures that matter most.
pub(super) fn tiles(page: &mut Page, verdict: &Verdict) {
    page.raw("<div class=\"tiles\">\n");
    let mut tile = |value: String, name: String, class: &'static str| {
        page.raw("<div class=\"tile ").raw(class).raw("\"><b>").text(value).raw("</b><span>").text(name);
        page.raw("</span></div>\n");
    };
    let counts = &verdict.counts;
    let violations = verdict.violations.total();
    let lost = verdict.violations.count(Kind::LostWrite);
    let judged = |bad: u64| if bad > 0 { "bad" } else { "good" };
    tile(thousands(counts.acked), "records acknowledged".to_owned(), "");
    tile(thousands(counts.verified), "read back where acknowledged".to_owned(), "");
    tile(thousands(lost), "lost".to_owned(), judged(lost));
    tile(thousands(violations), "violations in all".to_owned(), judged(violations));
    let unknown = format!("without an answer; {} of them appeared", thousands(counts.unknown_appeared));
    tile(thousands(counts.unknown), unknown, "");
    tile(thousands(counts.read_along), "read beside the load".to_owned(), "");
    tile(thousands(counts.faults), "faults".to_owned(), "");
    let latency = verdict.figures.latency();
    let quantiles = format!("{} / {}", maybe(latency.quantile(0.5)), maybe(latency.quantile(0.99)));
    tile(quantiles, "record to ack, p50 / p99".to_owned(), "");
    let mut recovered: Vec<Duration> =
        verdict.liveness.recoveries.iter().filter_map(|recovery| recovery.took).collect();
    recovered.sort_unstable();
    if !recovered.is_empty() {
        let quantiles =
            format!("{} / {}", maybe(quantile(&recovered, 0.5)), maybe(quantile(&recovered, 0.99)));
        tile(quantiles, "leader's fault to writable, p50 / p99".to_owned(), "");
    }
    tile(duration(verdict.liveness.longest_healthy), "longest without an ack while healthy".to_owned(), "");
    page.raw("</div>\n");
}

/// The longest times without an ack.
pub(super) fn gaps(page: &mut Page, verdict: &Verdict) {
    page.section("Longest times without an ack");
    let gaps = &verdict.liveness.gaps;
    if gaps.is_empty() {
        page.raw("<p class=\"note\">None of 200 ms or more.</p>\n");
        return page.end_section();
    }
    page.raw("<p class=\"note\">While something was asked for, by partition; ")
        .text(thousands(gaps.len() as u64));
    page.raw(" of 200 ms and more.</p>\n<div class=\"wide\"><table><tr><th>partition</th><th class=\"n\">from</th>");
    page.raw("<th class=\"n\">to</th><th class=\"n\">length</th><th class=\"n\">of it without fault</th>");
    page.raw("<th>faults at work</th></tr>\n");
    for gap in gaps.iter().take(GAPS_TOLD) {
        let name = verdict.liveness.names.get(&gap.partition).map_or("?", String::as_str);
        page.raw("<tr><td>").text(name).raw("</td><td class=\"n\">").text(gap.from);
        page.raw("</td><td class=\"n\">")
            .text(gap.to)
            .raw("</td><td class=\"n\">")
            .text(duration(gap.length()));
        page.raw("</td><td class=\"n\">").text(duration(gap.healthy)).raw("</td><td>");
        page.text(at_work(&verdict.faults, gap)).raw("</td></tr>\n");
    }
    page.raw("</table></div>\n");
    page.end_section();
}

/// The faults that overlap a gap, in words.
pub(super) fn at_work(faults: &[FaultSpan], gap: &Gap) -> String {
    let overlaps = |fault: &&FaultSpan| fault.begin < gap.to && fault.end.is_none_or(|end| end > gap.from);
    let told: Vec<String> = faults
        .iter()
        .filter(overlaps)
        .map(|fault| {
            let nodes: Vec<String> = fault.nodes.iter().map(u32::to_string).collect();
            if nodes.is_empty() {
                fault.kind.clone()
            } else {
                format!("{} of {}", fault.kind, nodes.join("+"))
            }
        })
        .collect();
    match told.len() {
        0 => "–".to_owned(),
        1..=4 => told.join(", "),
        more => format!("{}, and {} more", told[..4].join(", "), more - 4),
    }
}

/// Every kind with its count, then the violations that are told in full.
pub(super) fn violations(page: &mut Page, verdict: &Verdict) {
    page.section("What must hold");
    page.raw("<div class=\"columns\">\n");
    for half in Kind::ALL.chunks(Kind::ALL.len().div_ceil(2)) {
        page.raw("<table>");
        for kind in half {
            let count = verdict.violations.count(*kind);
            page.raw("<tr><td>no ").text(kind).raw("</td><td class=\"n ");
            page.raw(if count > 0 { "bad" } else { "zero" })
                .raw("\">")
                .text(thousands(count))
                .raw("</td></tr>\n");
        }
        page.raw("</table>\n");
    }
    page.raw("</div>\n");
    let told = verdict.violations.told();
    if !told.is_empty() {
        page.raw("<h3>Violations</h3><p class=\"note\">").text(told.len()).raw(" of ");
        page.text(thousands(verdict.violations.total()))
            .raw(" in full; #numbers count the history's events.</p>\n");
        page.raw("<div class=\"wide\"><table><tr><th>kind</th><th>where</th><th>what</th></tr>\n");
        for violation in told {
            page.raw("<tr><td class=\"bad\">").text(violation.kind).raw("</td><td>").text(&violation.place);
            page.raw("</td><td>");
            if violation.operations.is_empty() {
                page.text(&violation.text);
            } else {
                page.raw("<details><summary>").text(&violation.text).raw("</summary>\n");
                for operation in &violation.operations {
                    page.raw("<pre>").text(operation).raw("</pre>\n");
                }
                page.raw("</details>");
            }
            page.raw("</td></tr>\n");
        }
        page.raw("</table></div>\n");
    }
    page.end_section();
}

/// How much was checked, in all detail.
pub(super) fn counts(page: &mut Page, verdict: &Verdict) {
    page.section("What was checked");
    let rows = super::text::rows(&verdict.counts);
    page.raw("<div class=\"columns\">\n");
    for half in rows.chunks(rows.len().div_ceil(2)) {
        page.raw("<table>");
        for (name, count) in half {
            page.raw("<tr><td>").raw(name).raw("</td><td class=\"n ");
            page.raw(if *count == 0 { "zero" } else { "" })
                .raw("\">")
                .text(thousands(*count))
                .raw("</td></tr>\n");
        }
        page.raw("</table>\n");
    }
    page.raw("</div>\n");
    page.end_section();
}
