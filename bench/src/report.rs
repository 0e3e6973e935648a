//! What was measured, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Shown only.
    Unset,
}

impl Target {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::Unset => None,
        }
    }
}

/// One figure, measured several times.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Which, as in `p99`.
    pub what: String,
    /// As in `ms`.
    pub unit: &'static str,
    /// What it should be.
    pub target: Target,
    /// One from each repetition.
    pub samples: Vec<f64>,
}

impl Measure {
    /// Without samples yet.
    pub fn new(what: &str, unit: &'static str, target: Target) -> Self {
        Self { what: what.to_owned(), unit, target, samples: Vec::new() }
    }

    /// The middle sample (the upper one of two); `None` without samples.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn line(&self) -> String {
        let sorted = self.sorted();
        let (Some(median), Some(least), Some(most)) = (self.median(), sorted.first(), sorted.last()) else {
            return format!("  {:<26} not measured\n", self.what);
        };
        let figure = format!("{} {}", short(median), self.unit);
        let spread = format!("({}-{}, n={})", short(*least), short(*most), sorted.len());
        let target = match self.target {
            Target::AtMost(target) => format!("<= {} ", short(target)),
            Target::AtLeast(target) => format!(">= {} ", short(target)),
            Target::Unset => String::new(),
        };
        let verdict = match self.target.met(median) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let line = format!("  {:<26} {figure:<18} {spread:<26} {target}{verdict}", self.what);
        format!("{}\n", line.trim_end())
    }

    fn json(&self) -> Value {
        let (kind, target) = match self.target {
            Target::AtMost(target) => ("at_most", Some(target)),
            Target::AtLeast(target) => ("at_least", Some(target)),
            Target::Unset => ("none", None),
        };
        json!({
            "what": self.what, "unit": self.unit, "median": self.median(), "samples": self.samples,
            "target": target, "target_kind": kind, "met": self.median().and_then(|median| self.target.met(median)),
        })
    }
}

/// Three digits that count, or all before the point.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A row: figures that were taken together.
#[derive(Debug, Clone)]
pub struct Row {
    /// As on the command line.
    pub id: &'static str,
    /// What it is about.
    pub title: String,
    /// How it was taken: acks, sync, batch, connections, duration.
    pub setting: String,
    /// Its figures.
    pub measures: Vec<Measure>,
    /// What else is to be known, failures among it.
    pub notes: Vec<String>,
}

impl Row {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{} [{}]\n  {}\n", self.title, self.id, self.setting);
        for measure in &self.measures {
            text.push_str(&measure.line());
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "title": self.title, "setting": self.setting,
            "measures": self.measures.iter().map(Measure::json).collect::<Vec<_>>(), "notes": self.notes,
        })
    }

    /// How many targets were met, and how many there are.
    pub fn score(&self) -> (usize, usize) {
        let verdicts: Vec<bool> = self
            .measures
            .iter()
            .filter(|measure| measure.target != Target::Unset)
            .map(|measure| measure.median().and_then(|median| measure.target.met(median)) == Some(true))
            .collect();
        (verdicts.iter().filter(|met| **met).count(), verdicts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(target: Target, samples: &[f64]) -> Measure {
        Measure { what: "p99".to_owned(), unit: "ms", target, samples: samples.to_vec() }
    }

    #[test]
    fn the_median_decides() {
        let line = measure(Target::AtMost(2.0), &[9.0, 1.0, 2.0]).line();
        assert!(
            line.contains("2.00 ms") && line.contains("(1.00-9.00, n=3)") && line.contains("met"),
            "{line}"
        );
        assert!(measure(Target::AtLeast(2.5), &[2.0]).line().contains("MISSED"));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let measures = vec![measure(Target::AtMost(2.0), &[]), measure(Target::Unset, &[1.0])];
        let row = Row { id: "x", title: String::new(), setting: String::new(), measures, notes: Vec::new() };
        assert_eq!(row.score(), (0, 1));
        assert!(row.text().contains("not measured"));
    }
}
