//! What was asked for on the command line.

/// How the command is used.
pub const HELP: &str = "\
cargo xtask crash [--states N] [--trials N] [--log LOG] [--seed N] [--row ROW] [--run N]

  --states N   crash so many states of each log (2000)
  --trials N   damage each log so many times (500); from 10000 on every bit of small ones is flipped
  --log LOG    partition, wal, sled, both (wal and sled), all (all)
  --seed N     what chance follows (1)
  --row ROW    only the rows of the table that begin so
  --run N      only this run of a partition's rows, and what it does";

/// See the module.
pub struct Asked {
    pub states: u64,
    pub trials: u64,
    pub seed: u64,
    logs: &'static [&'static str],
    row: String,
    pub run: Option<u64>,
}

impl Asked {
    /// Reads the words of the command line.
    pub fn of(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let logs = &["partition", "wal", "sled"];
        let mut asked = Self { states: 2_000, trials: 500, seed: 1, logs, row: String::new(), run: None };
        while let Some(word) = words.next() {
            if word == "--help" {
                return Err(String::new());
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse().map_err(|_| format!("`{value}` is no number"));
            match word.as_str() {
                "--states" => asked.states = number()?,
                "--trials" => asked.trials = number()?,
                "--seed" => asked.seed = number()?,
                "--run" => asked.run = Some(number()?),
                "--row" => asked.row = value,
                "--log" => {
                    asked.logs = match value.as_str() {
                        "partition" => &["partition"],
                        "wal" => &["wal"],
                        "sled" => &["sled"],
                        "both" => &["wal", "sled"],
                        "all" => logs,
                        other => return Err(format!("no log is called `{other}`")),
                    }
                }
                other => return Err(format!("`{other}` is not known")),
            }
        }
        Ok(asked)
    }

    /// Whether a row of a log is to be run.
    pub fn wants(&self, log: &str, row: &str) -> bool {
        self.logs.contains(&log) && row.starts_with(&self.row)
    }
}
