//! Work that a task of a runtime hands over because it blocks.

use tokio::task::JoinHandle;

use crate::simulator::simulator;

/// Runs what waits for a disk beside the runtime's workers. Under simulation it is a task: a disk takes no time there
/// that others would notice.
pub fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match simulator() {
        None => tokio::task::spawn_blocking(work),
        Some(_) => tokio::spawn(async move { work() }),
    }
}

/// Runs what waits for other threads or tasks beside the runtime's workers; under simulation on a thread of its own.
pub fn offload_waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if simulator().is_none() {
        return tokio::task::spawn_blocking(work);
    }
    let (done, finished) = tokio::sync::oneshot::channel();
    let spawned = crate::spawn("offloaded", move || {
        // Whoever asked may be gone.
        let _ = done.send(work());
    });
    tokio::spawn(async move {
        spawned.expect("a simulator has room for threads");
        finished.await.expect("the work does not panic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_beside_the_runtime() {
        let here = std::thread::current().id();
        let elsewhere = || std::thread::current().id();
        assert_ne!(offload(elsewhere).await.unwrap(), here);
        assert_ne!(offload_waiting(elsewhere).await.unwrap(), here);
        assert!(offload(|| panic!("told")).await.unwrap_err().is_panic());
    }
}
