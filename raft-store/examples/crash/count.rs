//! What became of logs: counts, and a few words on the worst cases.

/// How many cases are described.
const SAMPLES: usize = 5;

/// Counts of outcomes.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All cases.
    pub tried: u64,
    /// Exactly what was acknowledged was there.
    pub exact: u64,
    /// That, and what was under way when it crashed.
    pub ahead: u64,
    /// It did not start, and said why.
    pub refused: u64,
    /// It started with something else than it should have.
    pub lost: u64,
    /// The first few refusals after crashes, and all losses, in words.
    pub samples: Vec<String>,
}

/// What became of one log.
pub enum Outcome {
    Exact,
    Ahead,
    Refused(String),
    Lost(String),
}

impl Counts {
    pub const HEAD: &'static str =
        "                                  tried      exact      ahead    refused  silently lost  seconds";

    /// Takes one case; `refusals` says whether refusals are described.
    pub fn add(&mut self, outcome: Outcome, refusals: bool, case: impl FnOnce() -> String) {
        self.tried += 1;
        let (what, text) = match outcome {
            Outcome::Exact => return self.exact += 1,
            Outcome::Ahead => return self.ahead += 1,
            Outcome::Refused(text) => {
                self.refused += 1;
                if !refusals || self.samples.len() >= SAMPLES {
                    return;
                }
                ("refused", text)
            }
            Outcome::Lost(text) => {
                self.lost += 1;
                ("LOST", text)
            }
        };
        self.samples.push(format!("{what}: {}: {text}", case()));
    }

    pub fn row(&self, name: &str) -> String {
        let Self { tried, exact, ahead, refused, lost, .. } = self;
        format!("{name:<28} {tried:>10} {exact:>10} {ahead:>10} {refused:>10} {lost:>14}")
    }
}
