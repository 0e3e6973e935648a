//! A leader that is cut off from everybody, and neither dead nor stopped: nothing arrives, nothing is refused, connections stay
//! as they were. Others take over, clients find them, and it acknowledges nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vltava_tests::history::{self, Attempt, Outcome, RecordId};
use vltava_tests::load::{self, Load, LoadOptions};
use vltava_tests::{Cluster, ClusterOptions, Network, Role};

use crate::api::{Api, append};
use crate::support::{RECOVERY, assert_replicas_agree, create, progress, wait_in_sync};

const TOPIC: &str = "isolation";
const SOME: u64 = 200;

/// A session of three seconds; then the next leader, the clients' next question, and something for a busy machine.
const LED_BY_ANOTHER: Duration = Duration::from_secs(7);

/// The same where it may be the active controller, too: after an election the next one grants everybody a session.
const AFTER_AN_ELECTION: Duration = Duration::from_secs(11);

/// Somebody who stands beside a broker, whatever happens to the network, and appends to it one record after the other.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Attempt>>,
}

impl Bystander {
    fn start(port: u16, producer: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (api, run) = (Api::new(port), rand::random());
            let mut attempts = Vec::new();
            for seq in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let id = RecordId { run, producer, seq };
                let mut request = append(TOPIC, 0, &id.value(100));
                request.timeout_ms = 500;
                let outcome = match api.append(request) {
                    Ok(answer) => Outcome::Acked { offset: answer.base_offset },
                    Err(error) => Outcome::Unknown(error.to_string()),
                };
                attempts.push(Attempt { id, partition: 0, outcome });
            }
            attempts
        });
        Self { stop, thread }
    }

    fn finish(self) -> Vec<Attempt> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("it does not panic")
    }
}

/// Cuts the leader off, twice, and looks how soon others write again and what it says meanwhile.
fn isolate(nodes: Vec<Role>, scenario: &str, within: Duration) {
    let extra = "leader.imbalance.check.interval.seconds = 600".to_owned();
    let options = ClusterOptions { nodes, extra, network: Network::Wires, ..ClusterOptions::default() };
    let mut cluster = Cluster::with(options);
    create(&cluster, TOPIC, 1, 3, &["min.insync.replicas=2"]);
    wait_in_sync(&cluster, TOPIC, 1, 3);
    let load = Load::start(&cluster.servers(), &LoadOptions::new(TOPIC, 1));
    let mut beside = Vec::new();
    for round in 0..2 {
        progress(&cluster, &load, SOME);
        let leader = cluster.leader(TOPIC, 0);
        load.longest_gap();
        cluster.wires().cut_off(leader);
        let bystander = Bystander::start(cluster.node(leader).grpc_listens, 100 + round);
        progress(&cluster, &load, SOME);
        let gap = load.longest_gap();
        let attempts = bystander.finish();
        let acked =
            attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Acked { .. })).count();
        eprintln!(
            "{scenario}: leader {leader} was cut off: no acks for {gap:?}; it acknowledged {acked} of {} meanwhile",
            attempts.len()
        );
        assert!(!attempts.is_empty(), "nobody asked the one that was cut off");
        assert_eq!(acked, 0, "one that is cut off acknowledges\n{}", cluster.logs());
        assert!(gap < within, "{gap:?} without an ack\n{}", cluster.logs());
        beside.extend(attempts);
        cluster.wires().mend(leader);
        cluster.wait_ready();
        wait_in_sync(&cluster, TOPIC, 1, 3);
    }
    progress(&cluster, &load, SOME);
    let ledger = load.finish();
    cluster.assert_healthy();
    let attempts = [ledger.attempts, beside].concat();
    let read = load::read_back(&cluster.servers(), TOPIC, 1, &attempts, RECOVERY);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    let checked = history::check(&attempts, &read).and_then(|verdict| {
        history::check_watched(&ledger.watched, &read)?;
        Ok(verdict)
    });
    let verdict = checked.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    eprintln!("{scenario}: {verdict:?}");
    assert_replicas_agree(&mut cluster, scenario, TOPIC, 1);
}

#[test]
fn an_isolated_leader_is_replaced_within_a_session_and_acknowledges_nothing() {
    let nodes = vec![Role::Controller, Role::Broker, Role::Broker, Role::Broker];
    isolate(nodes, "isolated leader", LED_BY_ANOTHER);
}

#[test]
fn an_isolated_leader_that_is_a_controller_too_is_replaced_and_acknowledges_nothing() {
    isolate(vec![Role::Both; 3], "isolated node", AFTER_AN_ELECTION);
}
