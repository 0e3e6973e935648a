//! The one place where a storage failure becomes known. After the first one nothing here works again: the process must
//! stop, and this is how its owner hears why.

use std::sync::Arc;

use tokio::sync::watch;

/// Reports the first failure; later ones are consequences.
#[derive(Clone, Debug)]
pub(crate) struct FailureReporter(Arc<watch::Sender<Option<String>>>);

impl FailureReporter {
    pub(crate) fn new() -> (Self, Failure) {
        let (sender, receiver) = watch::channel(None);
        (Self(Arc::new(sender)), Failure(receiver))
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
pub struct Failure(watch::Receiver<Option<String>>);

impl Failure {
    /// Why the store failed, if it did.
    pub fn get(&self) -> Option<String> {
        self.0.borrow().clone()
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
