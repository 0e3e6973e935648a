//! What the active controller does without being asked: fences brokers whose time is up, lets leaderships go back to the
//! preferred replicas, ends changes of voters that were left half-done. All of it goes through the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use vltava_model::NodeId;

use crate::decide::rebalance_leaders::Progress;
use crate::decide::{self, Decision};
use crate::queue::{Queue, QueueError};
use crate::raft::membership::Members;
use crate::tenure::Tenure;

/// How soon what could not be done is tried again.
const AGAIN: Duration = Duration::from_millis(25);

/// How long at most nobody looks what there is to do.
const CALM: Duration = Duration::from_secs(1);

/// How often the clock is looked at, which counts what passed since as far as that is believable.
const CLOCK: Duration = Duration::from_millis(100);

/// How often brokers that were not heard of yet are looked for, and how long one look may take.
const KNOCK: Duration = Duration::from_millis(200);

/// Works whenever this controller is active, until the queue is gone.
pub(crate) async fn run(queue: Queue, members: Members, rebalance: Option<Duration>) {
    let mut tenures = queue.tenure();
    loop {
        let current = tenures.borrow_and_update().clone();
        let over = match current {
            Some(tenure) => {
                let finish = members.clone();
                tokio::spawn(async move { finish.finish().await });
                tokio::select! {
                    over = tenures.changed() => over,
                    () = serve(&queue, &tenure, rebalance) => Ok(()),
                    () = watch_clock(&tenure) => Ok(()),
                    () = look_for_the_vanished(&tenure) => Ok(()),
                }
            }
            None => tenures.changed().await,
        };
        if over.is_err() {
            return;
        }
    }
}

/// Of its own, so that a slow queue does not look like a process that stood still.
async fn watch_clock(tenure: &Tenure) {
    let mut look = tokio::time::interval(CLOCK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        tenure.look_at_clock();
    }
}

/// A broker that died together with the controller before would be waited for a whole session. Where the system says that
/// nothing listens at its address, its process is gone; a silent one is waited for.
async fn look_for_the_vanished(tenure: &Arc<Tenure>) {
    let mut look = tokio::time::interval(KNOCK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let expected: Vec<NodeId> = tenure.liveness().expected().collect();
        if expected.is_empty() {
            // Later ones are none that the controller before knew.
            return std::future::pending().await;
        }
        let mut knocking = tokio::task::JoinSet::new();
        for node in expected {
            let Some(address) = tenure.address(node).cloned() else { continue };
            knocking.spawn(async move { (node, nothing_listens(address).await) });
        }
        while let Some(knocked) = knocking.join_next().await {
            if let Ok((node, true)) = knocked {
                tenure.vanished(node);
            }
        }
    }
}

async fn nothing_listens((host, port): (String, u16)) -> bool {
    let connected = tokio::time::timeout(KNOCK, vltava_transport::knock(&host, port)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

async fn serve(queue: &Queue, tenure: &Arc<Tenure>, rebalance: Option<Duration>) {
    let mut moved = Instant::now();
    loop {
        let overdue: Vec<NodeId> = tenure.liveness().overdue(tenure.now()).collect();
        for node in overdue {
            fence(queue, tenure, node).await;
        }
        if rebalance.is_some_and(|interval| moved.elapsed() >= interval) {
            let more = queue.decide(|view| Ok(decide::rebalance_leaders::decide(view))).await;
            if !matches!(more, Ok(done) if done.response == Progress::More) {
                moved = Instant::now();
            }
        }
        let moves = rebalance.map(|interval| interval.saturating_sub(moved.elapsed()));
        let pause =
            [tenure.next_deadline(), moves].into_iter().flatten().fold(CALM, Duration::min).max(AGAIN);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tenure.sooner() => {}
        }
    }
}

/// What became of a broker whose time seemed to be up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overdue {
    No,
    FencedNow,
    FencedBefore,
}

async fn fence(queue: &Queue, tenure: &Arc<Tenure>, node: NodeId) {
    let fenced = queue.decide(move |view| {
        // It may have come back while this waited.
        if !view.liveness.overdue(view.now).any(|overdue| overdue == node) {
            return Ok(Decision::unchanged(Overdue::No));
        }
        let Decision { records, response: () } = decide::fence_broker::decide(view, node);
        let response = if records.is_empty() { Overdue::FencedBefore } else { Overdue::FencedNow };
        Ok(Decision { records, response })
    });
    match fenced.await {
        Ok(done) if done.response != Overdue::No => {
            let mut liveness = tenure.liveness();
            let still = liveness.overdue(tenure.now()).any(|overdue| overdue == node);
            if still {
                liveness.forget(node);
            }
            // One that comes back and goes again while it is fenced is no news.
            if still && done.response == Overdue::FencedNow {
                tracing::warn!(broker = %node, "a broker's session is over: it is fenced");
            }
        }
        Ok(_) | Err(QueueError::NotActive { .. }) => {}
        Err(error) => tracing::warn!(broker = %node, %error, "a broker could not be fenced yet"),
    }
}
