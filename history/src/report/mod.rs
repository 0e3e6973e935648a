//! A verdict for people: one self-contained page, or a summary for a terminal. Knows nothing of how a verdict is
//! reached.

mod chart;
mod columns;
mod faults;
mod page;
mod scale;
mod tables;
mod text;

pub use text::summary;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::{Recovery, Verdict};
use page::Page;

/// The page, as HTML that needs nothing else.
pub fn html(verdict: &Verdict) -> String {
    let mut page = Page::new(verdict);
    tables::head(&mut page, verdict);
    tables::tiles(&mut page, verdict);
    let wrong = verdict.violations.total() > 0;
    if wrong {
        tables::violations(&mut page, verdict);
    }
    page.section("Over time");
    let columns = columns::Columns::new(verdict);
    faults::lanes(&mut page, verdict, &columns);
    chart::acks(&mut page, verdict, &columns);
    chart::latency(&mut page, verdict, &columns);
    chart::reads(&mut page, verdict, &columns);
    page.end_section();
    faults::recoveries(&mut page, verdict);
    tables::gaps(&mut page, verdict);
    if !wrong {
        tables::violations(&mut page, verdict);
    }
    tables::counts(&mut page, verdict);
    page.finish()
}

/// How soon partitions whose leader was hit were writable again: for each kind of fault the times, ascending, and how
/// often it never happened.
pub fn recoveries_by_kind(verdict: &Verdict) -> BTreeMap<&str, (Vec<Duration>, usize)> {
    let mut by_kind: BTreeMap<&str, (Vec<Duration>, usize)> = BTreeMap::new();
    for Recovery { fault, took, .. } in &verdict.liveness.recoveries {
        let entry = by_kind.entry(verdict.faults[*fault].kind.as_str()).or_default();
        match took {
            Some(took) => entry.0.push(*took),
            None => entry.1 += 1,
        }
    }
    by_kind.values_mut().for_each(|(times, _)| times.sort_unstable());
    by_kind
}

/// The value that a share of a sorted list does not exceed.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with three digits or so, in the unit that fits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 3600.0 => format!("{} h {:02} min", s as u64 / 3600, s as u64 % 3600 / 60),
        s if s >= 120.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        0.0 => "0".to_owned(),
        s if s >= 0.001 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

/// A duration that may be missing.
pub(crate) fn maybe(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), duration)
}

#[cfg(test)]
mod tests;
