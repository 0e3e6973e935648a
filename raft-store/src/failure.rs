//! The one place where a storage failure becomes known. After the first one nothing here works again: the process must
//! stop, and this is how its owner hears why.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use vltava_storage::calls::Watch;

/// Reports the first failure; later ones are consequences.
#[derive(Clone, Debug)]
pub(crate) struct FailureReporter(Arc<watch::Sender<Option<String>>>, Arc<Watch>);

impl FailureReporter {
    pub(crate) fn new() -> (Self, Failure) {
        let (sender, receiver) = watch::channel(None);
        let calls = Arc::new(Watch::default());
        (Self(Arc::new(sender), calls.clone()), Failure(receiver, calls))
    }

    /// The thread that calls this is the one that owns the log: its calls of the disk are seen from now on.
    pub(crate) fn attend(&self) {
        self.1.attend();
    }

    /// Reports `why`, unless something was reported before.
    pub(crate) fn report(&self, why: &str) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(why, "the Raft store failed; this process must stop");
                *first = Some(why.to_owned());
            }
            is_first
        });
    }
}

/// Learns of the first storage failure.
#[derive(Clone, Debug)]
pub struct Failure(watch::Receiver<Option<String>>, Arc<Watch>);

impl Failure {
    /// Why the store failed, if it did.
    pub fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// How long the log has waited for the call of its disk that it is at, if it is at one: one that hangs is no failure that the
    /// store could report.
    pub fn disk_call(&self) -> Option<Duration> {
        self.1.waits()
    }

    /// Waits for a failure and says why it happened. Never returns while all is well; cancel safe.
    pub async fn wait(&mut self) -> String {
        loop {
            let why = self.0.borrow_and_update().clone();
            if let Some(why) = why {
                return why;
            }
            if self.0.changed().await.is_err() {
                // The store was closed in good order: it can fail no more.
                std::future::pending::<()>().await;
            }
        }
    }
}
