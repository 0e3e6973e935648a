//! A run's seconds, gathered into as many columns as a drawing can show.

use crate::check::{Histogram, Verdict};

use super::scale::Time;

/// More would be narrower than a line.
const COLUMNS_MAX: u64 = 400;

/// One column.
#[derive(Default)]
pub(super) struct Column {
    pub acked: u64,
    pub read: u64,
    pub unacked: u64,
    pub latency: Histogram,
}

/// All columns, of the same width.
pub(super) struct Columns {
    pub time: Time,
    /// Seconds of one.
    pub width: u64,
    pub columns: Vec<Column>,
}

impl Columns {
    pub(super) fn new(verdict: &Verdict) -> Self {
        let figures = &verdict.figures.seconds;
        // The final read comes after the load; the drawing ends with whatever is shown last.
        let load = figures.last_key_value().map_or(0, |(second, _)| second + 1);
        let faults =
            verdict.faults.iter().map(|fault| fault.end.unwrap_or(fault.begin).get() / 1_000_000_000 + 1);
        let seconds = load.max(faults.max().unwrap_or(0)).max(1);
        let width = seconds.div_ceil(COLUMNS_MAX);
        let mut columns: Vec<Column> = (0..seconds.div_ceil(width)).map(|_| Column::default()).collect();
        for (second, figures) in figures {
            let column = &mut columns[(second / width) as usize];
            column.acked += figures.acked;
            column.read += figures.read;
            column.unacked += figures.unacked;
            column.latency.merge(&figures.latency);
        }
        Self { time: Time { seconds: seconds as f64 }, width, columns }
    }

    /// Where a column begins and ends.
    pub(super) fn span(&self, column: usize) -> (f64, f64) {
        let from = (column as u64 * self.width) as f64;
        (self.time.x(from), self.time.x(from + self.width as f64))
    }

    /// Something per second.
    pub(super) fn per_second(&self, count: impl Fn(&Column) -> u64) -> Vec<f64> {
        let last = self.columns.len() - 1;
        let seconds = |at| {
            let whole = self.width as f64;
            if at == last { self.time.seconds - whole * last as f64 } else { whole }
        };
        self.columns.iter().enumerate().map(|(at, column)| count(column) as f64 / seconds(at)).collect()
    }
}
