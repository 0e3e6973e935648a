//! Curves over the run's time.

use super::columns::Columns;
use super::page::Page;
use super::scale::{LEFT, RIGHT, Time, Values, short};
use crate::check::{FaultSpan, Verdict};
use crate::event::At;

/// What is above and below a chart's plot.
const TOP: f64 = 8.0;
const BELOW: f64 = 20.0;
/// More faults than this would colour everything.
const BANDS_MAX: usize = 60;

/// Where a chart's values go.
struct Plot<'a> {
    columns: &'a Columns,
    values: Values,
    height: f64,
}

/// Records acknowledged per second, and those that were not.
pub(super) fn acks(page: &mut Page, verdict: &Verdict, columns: &Columns) {
    page.raw("<h3>Records acknowledged per second</h3><div class=\"legend\">");
    page.raw("<span><i class=\"l-acks\"></i>acknowledged</span>");
    page.raw("<span><i class=\"l-failed\"></i>failed or without an answer</span></div>\n");
    let acks = columns.per_second(|column| column.acked);
    let unacked = columns.per_second(|column| column.unacked);
    let values = Values::linear(acks.iter().chain(&unacked).copied());
    let plot = Plot { columns, values, height: 130.0 };
    plot.open(page, verdict, "records acknowledged per second", short);
    for (at, value) in unacked.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let (from, to) = columns.span(at);
        let bottom = TOP + plot.height;
        let top = plot.y(*value).min(bottom - 1.5);
        page.raw("<rect class=\"failed\" x=\"").number(from).raw("\" y=\"").number(top).raw("\" width=\"");
        page.number((to - from).max(0.8)).raw("\" height=\"").number(bottom - top).raw("\"/>\n");
    }
    plot.curve(page, acks.into_iter().map(Some), "acks");
    page.end_drawing();
}

/// Records read per second.
pub(super) fn reads(page: &mut Page, verdict: &Verdict, columns: &Columns) {
    page.raw("<h3>Records read per second, by consumers beside the load</h3>\n");
    let reads = columns.per_second(|column| column.read);
    let values = Values::linear(reads.iter().copied());
    let plot = Plot { columns, values, height: 90.0 };
    plot.open(page, verdict, "records read per second", short);
    plot.curve(page, reads.into_iter().map(Some), "reads");
    page.end_drawing();
}

/// Quantiles of the acks' latency, in milliseconds, on a logarithmic scale.
pub(super) fn latency(page: &mut Page, verdict: &Verdict, columns: &Columns) {
    page.raw("<h3>Time from record to ack</h3><div class=\"legend\"><span><i class=\"l-p50\"></i>half are faster</span>");
    page.raw("<span><i class=\"l-p99\"></i>99 of 100 are faster</span></div>\n");
    let quantile = |share: f64| {
        let of = columns.columns.iter().map(|column| column.latency.quantile(share));
        of.map(|time| time.map(|time| time.as_secs_f64() * 1000.0)).collect::<Vec<_>>()
    };
    let (half, most) = (quantile(0.5), quantile(0.99));
    let values = Values::log(half.iter().chain(&most).flatten().copied(), 1.0);
    let plot = Plot { columns, values, height: 130.0 };
    plot.open(page, verdict, "latency of acks over time", |millis| match millis {
        m if m >= 1000.0 => format!("{} s", m / 1000.0),
        m => format!("{} ms", short(m)),
    });
    plot.curve(page, most.into_iter(), "p99");
    plot.curve(page, half.into_iter(), "p50");
    page.end_drawing();
}

impl Plot<'_> {
    fn y(&self, value: f64) -> f64 {
        TOP + self.height * (1.0 - self.values.share(value))
    }

    /// Opens the drawing: faults, grid and labels.
    fn open(&self, page: &mut Page, verdict: &Verdict, name: &'static str, label: impl Fn(f64) -> String) {
        page.drawing(TOP + self.height + BELOW, name);
        if verdict.faults.len() <= BANDS_MAX {
            self.bands(page, &verdict.faults);
        }
        for value in self.values.ticks() {
            let y = self.y(value);
            page.line((LEFT, y), (RIGHT, y), "grid");
            page.label(LEFT - 8.0, y + 4.0, "end", label(value));
        }
        time_axis(page, self.columns.time, TOP, TOP + self.height);
    }

    /// When faults were at work.
    fn bands(&self, page: &mut Page, faults: &[FaultSpan]) {
        for fault in faults {
            let x = |at: At| self.columns.time.x(at.get() as f64 / 1e9);
            let (from, to) = (x(fault.begin), fault.end.map_or(RIGHT, x));
            page.raw("<rect class=\"hit\" x=\"").number(from).raw("\" y=\"").number(TOP).raw("\" width=\"");
            page.number((to - from).max(1.0)).raw("\" height=\"").number(self.height).raw("\"/>\n");
        }
    }

    /// Steps, interrupted where there is no value.
    fn curve(&self, page: &mut Page, curve: impl Iterator<Item = Option<f64>>, class: &'static str) {
        page.raw("<path class=\"").raw(class).raw("\" d=\"");
        let mut drawn = false;
        for (at, value) in curve.enumerate() {
            let Some(value) = value else {
                drawn = false;
                continue;
            };
            let (from, to) = self.columns.span(at);
            page.raw(if drawn { "L" } else { "M" }).number(from).raw(",").number(self.y(value));
            page.raw("H").number(to);
            drawn = true;
        }
        page.raw("\"/>\n");
    }
}

/// Vertical lines at round times from `top` to `bottom`, labelled below.
pub(super) fn time_axis(page: &mut Page, time: Time, top: f64, bottom: f64) {
    for (second, label) in time.ticks() {
        let x = time.x(second);
        page.line((x, top), (x, bottom), "grid");
        let anchor = match x {
            x if x > RIGHT - 20.0 => "end",
            _ if second == 0.0 => "start",
            _ => "middle",
        };
        page.label(x, bottom + 15.0, anchor, label);
    }
}
