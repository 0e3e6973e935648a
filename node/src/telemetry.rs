//! Logs on standard error, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// The environment variable that says what is logged, as in `info,vltava_broker=debug`.
pub const FILTER_VARIABLE: &str = "VLTAVA_LOG";

/// Libraries that log more than anybody reads. A peer that is down is the controller's to tell, once.
const QUIET: &str =
    "h2=warn,hyper=warn,tonic=warn,tower=warn,sled=warn,openraft=error,openraft::replication=off";

/// In which form logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LogFormat {
    /// A line for people, in colour on a terminal.
    #[default]
    Human,
    /// An object a line.
    Json,
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable's value is no filter.
    #[error(
        "{FILTER_VARIABLE}={value}: {problem}; write a level, as in info, or levels by part, as in info,vltava_broker=debug"
    )]
    Filter {
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The process logs already.
    #[error("logs are set up already")]
    Twice,
}

/// Starts logging; `default_level` holds where `VLTAVA_LOG` says nothing.
pub fn init(format: LogFormat, default_level: &str) -> Result<(), TelemetryError> {
    let set = std::env::var(FILTER_VARIABLE).ok().filter(|value| !value.trim().is_empty());
    let filter = filter(set.as_deref(), default_level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal());
    let result = match format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    result.map_err(|_| TelemetryError::Twice)
}

fn filter(set: Option<&str>, default_level: &str) -> Result<EnvFilter, TelemetryError> {
    // What a user writes comes last, and wins.
    let directives = format!("{QUIET},{}", set.unwrap_or(default_level));
    EnvFilter::try_new(directives).map_err(|error| TelemetryError::Filter {
        value: set.unwrap_or(default_level).to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        let quiet = filter(None, "info").unwrap().to_string();
        assert!(quiet.contains("sled=warn") && quiet.contains("info"), "{quiet}");
        let set = filter(Some("debug,openraft=trace"), "info").unwrap().to_string();
        assert!(set.contains("openraft=trace") && !set.contains("openraft=error"), "{set}");
        let wrong = filter(Some("vltava=loud"), "info").unwrap_err().to_string();
        assert!(wrong.starts_with("VLTAVA_LOG=vltava=loud: "), "{wrong}");
    }
}
