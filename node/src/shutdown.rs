//! An ordered end: what asks for it, and the stages in which it comes. What the stages do, their owners know.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a second signal, as shells give it for an interrupt.
const IMPATIENT: i32 = 130;

/// A request to stop, made once and seen by all clones.
#[derive(Clone, Debug)]
pub struct Shutdown {
    reason: watch::Sender<Option<&'static str>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self { reason: watch::Sender::new(None) }
    }

    /// Asks to stop. Only the first reason counts.
    pub fn trigger(&self, reason: &'static str) {
        self.reason.send_if_modified(|first| match first {
            Some(_) => false,
            None => {
                *first = Some(reason);
                true
            }
        });
    }

    /// Whether somebody has asked, and why.
    pub fn reason(&self) -> Option<&'static str> {
        *self.reason.borrow()
    }

    /// Waits until somebody asks; returns why.
    pub async fn requested(&self) -> &'static str {
        let mut reason = self.reason.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        match reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or("stopped"),
            Err(_) => "stopped",
        }
    }

    /// Lets SIGTERM and SIGINT ask to stop. A second one ends the process at once.
    ///
    /// # Errors
    /// When the system refuses signal handlers.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.reason().is_some() {
                    tracing::warn!("{name} while stopping: ending at once");
                    std::process::exit(IMPATIENT);
                }
                tracing::info!("{name}: stopping; a second signal ends the process at once");
                shutdown.trigger(name);
            }
        });
        Ok(())
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is done to stop, one stage after the other, each with its time.
#[derive(Default)]
pub struct Stages {
    stages: Vec<(&'static str, Duration, Work)>,
}

/// How a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StageEnd {
    /// Its work was done.
    Done,
    /// Its time was over first; the work was dropped.
    TimedOut,
}

impl Stages {
    /// No stages yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage that comes after those added before.
    #[must_use]
    pub fn then(
        mut self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.stages.push((name, limit, Box::pin(work)));
        self
    }

    /// Runs all stages; a stage that takes too long is given up and the next one runs.
    pub async fn run(self) -> Vec<(&'static str, StageEnd)> {
        let mut ends = Vec::new();
        for (name, limit, work) in self.stages {
            let started = tokio::time::Instant::now();
            tracing::debug!("stopping: {name}");
            let end = match tokio::time::timeout(limit, work).await {
                Ok(()) => StageEnd::Done,
                Err(_) => {
                    tracing::warn!("stopping: {name} took longer than {limit:?} and was given up");
                    StageEnd::TimedOut
                }
            };
            tracing::info!(took_ms = started.elapsed().as_millis(), "stopping: {name}: {end:?}");
            ends.push((name, end));
        }
        ends
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stages.iter().map(|(name, limit, _)| (name, limit))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn stages_run_in_order_and_a_stuck_one_is_given_up() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let order = Arc::clone(&order);
            async move { order.lock().unwrap().push(what) }
        };
        let ends = Stages::new()
            .then("hand over", Duration::from_secs(1), note("first"))
            .then("drain", Duration::from_secs(5), std::future::pending())
            .then("close", Duration::from_secs(1), note("last"))
            .run()
            .await;
        assert_eq!(*order.lock().unwrap(), ["first", "last"]);
        let expected =
            [("hand over", StageEnd::Done), ("drain", StageEnd::TimedOut), ("close", StageEnd::Done)];
        assert_eq!(ends, expected);
    }

    #[tokio::test]
    async fn the_first_reason_counts() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        shutdown.trigger("SIGTERM");
        shutdown.trigger("later");
        assert_eq!(waiting.await.unwrap(), "SIGTERM");
        assert_eq!(shutdown.requested().await, "SIGTERM");
    }
}
