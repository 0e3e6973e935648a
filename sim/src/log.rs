//! The daemons' logs: printed when somebody wants to read them, and else not even put together. What is logged is not known
//! here.

use std::fmt;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::{clock, host};

/// Says which logs are wanted.
const VARIABLE: &str = "VLTAVA_SIM_LOG";

/// From now on logs are printed, or dropped for good, as the environment says.
pub fn begin() {
    match std::env::var(VARIABLE) {
        Ok(filter) => {
            let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
            subscriber.with_timer(Timer).with_writer(std::io::stderr).init();
        }
        // Without any subscriber, each span of each library would be put together for the crate `log`.
        Err(_) => tracing::subscriber::set_global_default(Deaf).expect("nobody listens yet"),
    }
}

/// Puts simulated time and the machine before lines.
struct Timer;

impl FormatTime for Timer {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:>9} {}", clock::now(), host::current())
    }
}

/// Listens to nothing, and says so before anybody asks.
struct Deaf;

impl Subscriber for Deaf {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::never()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
