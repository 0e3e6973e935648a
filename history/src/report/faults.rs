//! Faults as bars, a lane for each node, and how soon partitions recovered from them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::columns::Columns;
use super::page::Page;
use super::scale::{LEFT, RIGHT, Values};
use super::{chart, duration, maybe, quantile, recoveries_by_kind};
use crate::check::{FaultSpan, Verdict};

const LANE: f64 = 20.0;
const STRIP: f64 = 34.0;

/// The class that colours a kind; there are as many colours as people tell apart.
const COLOURS: [&str; 8] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];

fn kinds(verdict: &Verdict) -> Vec<&str> {
    verdict.faults.iter().map(|fault| fault.kind.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn colour(kinds: &[&str], kind: &str) -> &'static str {
    let at = kinds.iter().position(|known| *known == kind).unwrap_or(0);
    COLOURS[at % COLOURS.len()]
}

fn legend(page: &mut Page, verdict: &Verdict, kinds: &[&str]) {
    page.raw("<div class=\"legend\">");
    for kind in kinds {
        let count = verdict.faults.iter().filter(|fault| fault.kind == *kind).count();
        page.raw("<span><i class=\"").raw(colour(kinds, kind)).raw("\"></i>").text(kind);
        page.raw(" × ").text(count).raw("</span>");
    }
    page.raw("</div>\n");
}

/// A lane for each node, a bar for each fault.
pub(super) fn lanes(page: &mut Page, verdict: &Verdict, columns: &Columns) {
    page.raw("<h3>Faults</h3>\n");
    if verdict.faults.is_empty() {
        page.raw("<p class=\"note\">None.</p>\n");
        return;
    }
    let kinds = kinds(verdict);
    legend(page, verdict, &kinds);
    let nodes: BTreeSet<Option<u32>> = verdict.faults.iter().flat_map(lanes_of).collect();
    let height = nodes.len() as f64 * LANE;
    page.drawing(height + 22.0, "faults over time");
    chart::time_axis(page, columns.time, 0.0, height);
    for (lane, node) in nodes.iter().enumerate() {
        let top = lane as f64 * LANE;
        page.raw("<rect class=\"lane\" x=\"")
            .number(LEFT)
            .raw("\" y=\"")
            .number(top + 2.0)
            .raw("\" width=\"");
        page.number(RIGHT - LEFT).raw("\" height=\"").number(LANE - 4.0).raw("\"/>\n");
        let name = node.map_or_else(|| "cluster".to_owned(), |node| format!("node {node}"));
        page.label(LEFT - 8.0, top + LANE / 2.0 + 4.0, "end", name);
        for fault in verdict.faults.iter().filter(|fault| lanes_of(fault).any(|of| of == *node)) {
            bar(page, fault, columns, top, colour(&kinds, &fault.kind));
        }
    }
    page.end_drawing();
}

/// The lanes that a fault has a bar in.
fn lanes_of(fault: &FaultSpan) -> impl Iterator<Item = Option<u32>> + '_ {
    let whole = fault.nodes.is_empty().then_some(None);
    whole.into_iter().chain(fault.nodes.iter().map(|node| Some(*node)))
}

fn bar(page: &mut Page, fault: &FaultSpan, columns: &Columns, top: f64, colour: &'static str) {
    let seconds = |at: crate::At| at.get() as f64 / 1e9;
    let from = columns.time.x(seconds(fault.begin));
    let to = fault.end.map_or(RIGHT, |end| columns.time.x(seconds(end)));
    page.raw("<rect class=\"").raw(colour).raw("\" opacity=\".85\" rx=\"1.5\" x=\"").number(from);
    page.raw("\" y=\"").number(top + 4.0).raw("\" width=\"").number((to - from).max(1.5));
    page.raw("\" height=\"").number(LANE - 8.0).raw("\"><title>").text(&fault.kind).raw(" from ");
    page.text(fault.begin).raw(" to ");
    match fault.end {
        Some(end) => page.text(end).raw(" (").text(duration(end.since(fault.begin))).raw(")"),
        None => page.raw("the end"),
    };
    page.raw("\n").text(&fault.detail).raw("</title></rect>\n");
}

/// For each kind of fault that hit leaders: when the partitions were writable again.
pub(super) fn recoveries(page: &mut Page, verdict: &Verdict) {
    let by_kind = recoveries_by_kind(verdict);
    if by_kind.is_empty() {
        return;
    }
    page.section("From a leader's fault until its partitions were writable");
    page.raw("<p class=\"note\">From the fault's begin to the first ack of a record that was handed over after it, ");
    page.raw("one dot a partition; the bars mark the median and the 99th percentile.</p>\n");
    let kinds = kinds(verdict);
    let seconds = by_kind.values().flat_map(|(times, _)| times).map(Duration::as_secs_f64);
    let values = Values::log(seconds, 1.0);
    let height = by_kind.len() as f64 * STRIP;
    let left = LEFT + 60.0;
    let x = |time: Duration| left + (RIGHT - 12.0 - left) * values.share(time.as_secs_f64());
    page.drawing(height + 22.0, "times to recover");
    for tick in values.ticks() {
        let x = x(Duration::from_secs_f64(tick));
        page.line((x, 0.0), (x, height), "grid");
        page.label(x, height + 15.0, "middle", duration(Duration::from_secs_f64(tick)));
    }
    for (row, (kind, (times, _))) in by_kind.iter().enumerate() {
        let middle = row as f64 * STRIP + STRIP / 2.0;
        page.label(left - 10.0, middle + 4.0, "end", kind);
        for (at, time) in times.iter().enumerate() {
            // Spread up and down, always alike, so that equal times are seen to be many.
            let spread = ((at as f64 * 0.618).fract() - 0.5) * (STRIP - 14.0);
            page.raw("<circle r=\"2.4\" opacity=\".6\" class=\"").raw(colour(&kinds, kind)).raw("\" cx=\"");
            page.number(x(*time)).raw("\" cy=\"").number(middle + spread).raw("\"/>\n");
        }
        for share in [0.5, 0.99] {
            if let Some(time) = quantile(times, share) {
                page.line((x(time), middle - 13.0), (x(time), middle + 13.0), "mark");
            }
        }
    }
    page.end_drawing();
    page.raw("<div class=\"wide\"><table><tr><th>fault</th><th class=\"n\">partitions hit</th><th class=\"n\">p50</th>");
    page.raw("<th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">longest</th>");
    page.raw("<th class=\"n\">no ack any more</th></tr>\n");
    for (kind, (times, never)) in &by_kind {
        page.raw("<tr><td>").text(kind).raw("</td><td class=\"n\">").text(times.len() + never);
        for share in [0.5, 0.9, 0.99, 1.0] {
            page.raw("</td><td class=\"n\">").text(maybe(quantile(times, share)));
        }
        page.raw("</td><td class=\"n\">").text(never).raw("</td></tr>\n");
    }
    page.raw("</table></div>\n");
    page.end_section();
}
