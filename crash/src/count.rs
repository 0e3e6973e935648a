//! What became of logs: counts, a few words on the worst cases, and how far a row of the table is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How many cases are described.
const SAMPLES: usize = 5;

/// How often a row says how far it is.
const NEWS: Duration = Duration::from_millis(500);

/// Counts of outcomes.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All cases.
    pub tried: u64,
    /// Exactly what was acknowledged was there.
    pub exact: u64,
    /// That, and what was under way when it crashed.
    pub ahead: u64,
    /// It did not start, or did not serve, and said why.
    pub refused: u64,
    /// It started with something else than it should have.
    pub lost: u64,
    /// The first few refusals after crashes, and losses, in words.
    pub samples: Vec<String>,
    /// When it was last said how far this is.
    told: Option<Instant>,
}

/// What became of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Exactly what was acknowledged was there.
    Exact,
    /// That, and what was under way.
    Ahead,
    /// It says what is wrong.
    Refused(String),
    /// Something else was there, and nobody says so.
    Lost(String),
}

impl Counts {
    /// The table's head.
    pub const HEAD: &'static str =
        "                                  tried      exact      ahead    refused  silently lost  seconds";

    /// Takes one case; `refusals` says whether refusals are described.
    pub fn add(&mut self, outcome: Outcome, refusals: bool, case: impl FnOnce() -> String) {
        self.tried += 1;
        self.tell();
        let (what, text) = match outcome {
            Outcome::Exact => return self.exact += 1,
            Outcome::Ahead => return self.ahead += 1,
            Outcome::Refused(text) => {
                self.refused += 1;
                if !refusals {
                    return;
                }
                ("refused", text)
            }
            Outcome::Lost(text) => {
                self.lost += 1;
                ("LOST", text)
            }
        };
        if self.samples.len() < SAMPLES {
            self.samples.push(format!("{what}: {}: {text}", case()));
        }
    }

    /// Says how far it is, where somebody looks on.
    fn tell(&mut self) {
        if !self.tried.is_multiple_of(64) {
            return;
        }
        let now = Instant::now();
        let last = *self.told.get_or_insert(now);
        let mut to = std::io::stderr();
        if now.duration_since(last) >= NEWS && to.is_terminal() {
            self.told = Some(now);
            // Nothing depends on it.
            let _ = write!(to, "\r{} tried, {} refused, {} lost ", self.tried, self.refused, self.lost);
            let _ = to.flush();
        }
    }

    /// The table's row.
    pub fn row(&self, name: &str) -> String {
        let Self { tried, exact, ahead, refused, lost, .. } = self;
        format!("{name:<28} {tried:>10} {exact:>10} {ahead:>10} {refused:>10} {lost:>14}")
    }
}
