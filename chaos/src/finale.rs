//! The end of a run: everything is healed, and the cluster must come back whole within a bound, with nothing missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use vltava_history::replicas;

use crate::Fallible;
use crate::cluster::Role;
use crate::eyes::Seen;
use crate::faults::{Field, Wound};
use crate::load::{Load, LoadOptions, Topic, read_everything};
use crate::scribe::Scribe;

/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long the last reading may take.
const READ_LIMIT: Duration = Duration::from_secs(240);
/// How long a node may take to end in order.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Heals everything that can be: no node is away, nothing is cut, every disk is well.
///
/// # Errors
/// When the system below fails.
pub fn heal(field: &mut Field) -> Fallible<()> {
    field.cluster.net.mend_all()?;
    let nodes: Vec<u32> = field.cluster.nodes().iter().map(|node| node.id).collect();
    for node in nodes {
        field.cluster.node(node).disk.ail(|ailments| *ailments = Default::default());
        field.cluster.resume(node)?;
        field.dying.remove(&node);
        field.cluster.start(node)?;
    }
    Ok(())
}

/// Waits until all nodes are ready.
///
/// # Errors
/// What is missing when the time is over.
pub fn wait_ready(field: &mut Field, limit: Duration) -> Fallible<()> {
    let deadline = Instant::now() + limit;
    loop {
        let waiting = unready(field);
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not ready within {limit:?}: {}", waiting.join("; ")).into());
        }
        std::thread::sleep(LOOK);
    }
}

fn unready(field: &Field) -> Vec<String> {
    field.cluster.nodes().iter().filter_map(|node| field.cluster.ready(node.id).err()).collect()
}

/// What the cluster lacks to be whole.
fn lacks(field: &mut Field, load: &Load, healed_at: vltava_history::At) -> Vec<String> {
    let mut lacks = unready(field);
    match field.eyes.quorum() {
        Ok(quorum) => {
            let controllers = field.cluster.ids(Role::Controller).len();
            if quorum.leader_id.is_none() || quorum.voters.len() != controllers {
                lacks.push(format!(
                    "the quorum has {} voters, leader {:?}",
                    quorum.voters.len(),
                    quorum.leader_id
                ));
            }
        }
        Err(error) => lacks.push(format!("the quorum can't be asked: {error}")),
    }
    match field.eyes.partitions() {
        Ok(partitions) => {
            let broken = partitions.iter().filter(|partition| !partition.is_whole());
            lacks.extend(broken.map(|Seen { topic, index, leader, replicas, isr, .. }| {
                format!("{topic}-{index}: leader {leader:?}, in sync {isr:?} of {replicas:?}")
            }));
        }
        Err(error) => lacks.push(format!("partitions can't be asked for: {error}")),
    }
    field.look_after_wounds();
    // What rots unread may rot on.
    let open = field.wounds.iter().filter(|wound| !matches!(wound, Wound::Rot { .. }));
    lacks.extend(open.map(|wound| format!("not made again: {wound:?}")));
    let silent = load.pulse().silent_since(&load.topics, healed_at);
    lacks.extend(silent.iter().map(|topic| format!("{topic} acknowledged nothing on some partition since")));
    lacks
}

/// Waits until the cluster is whole again; how long that took. A violation when it takes longer than `limit`.
///
/// # Errors
/// When the system below fails.
pub fn wait_whole(
    field: &mut Field,
    load: &Load,
    scribe: &Scribe,
    limit: Duration,
) -> Fallible<Option<Duration>> {
    let (began, healed_at) = (Instant::now(), scribe.now());
    loop {
        let deaths = field.cluster.deaths()?;
        field.notice(deaths);
        std::mem::take(&mut field.wrongful_deaths).iter().for_each(|death| scribe.violation(death));
        let lacks = lacks(field, load, healed_at);
        if lacks.is_empty() {
            scribe.say(&format!("whole again {:.1?} after the last fault", began.elapsed()));
            return Ok(Some(began.elapsed()));
        }
        if began.elapsed() > limit {
            scribe.violation(&format!("not whole within {limit:?} of the last fault: {}", lacks.join("; ")));
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What the disks showed.
#[derive(Default, Debug)]
pub struct Compared {
    /// Records that all replicas of their partition agree on.
    pub records: u64,
    /// Replicas looked at.
    pub replicas: usize,
}

/// Ends the load, reads everything, ends the nodes in order and compares their disks.
///
/// # Errors
/// When the system below fails.
pub fn conclude(
    field: &mut Field,
    load: Load,
    options: &LoadOptions,
    scribe: &Arc<Scribe>,
    runtime: &Runtime,
) -> Fallible<Compared> {
    scribe.say("ending the load");
    let topics = runtime.block_on(load.end());
    scribe.say("reading everything");
    runtime.block_on(read_everything(options, scribe, &topics, READ_LIMIT));
    scribe.finish()?;
    scribe.say("ending the nodes in order, comparing replicas");
    let deaths = field.cluster.deaths()?;
    field.notice(deaths);
    std::mem::take(&mut field.wrongful_deaths).iter().for_each(|death| scribe.violation(death));
    for role in [Role::Broker, Role::Controller] {
        for node in field.cluster.ids(role) {
            match field.cluster.terminate(node, END_LIMIT) {
                Ok(None | Some(0)) => {}
                Ok(code) => scribe.violation(&format!("node {node} ended with {code:?} when told to end")),
                Err(error) => scribe.violation(&error.to_string()),
            }
        }
    }
    for (node, line) in field.cluster.panics() {
        scribe.violation(&format!("node {node} panicked: {line}"));
    }
    for wound in std::mem::take(&mut field.wounds) {
        if let Wound::Rot { node, rot } = wound {
            scribe.say(&format!("taking back on node {node} what nobody has read: {}", rot.path.display()));
            field.cluster.node_mut(node).disk.take_back(&rot)?;
        }
    }
    Ok(compare(field, &topics, scribe))
}

fn compare(field: &Field, topics: &[Topic], scribe: &Scribe) -> Compared {
    let brokers = field.cluster.ids(Role::Broker).into_iter();
    let dirs: Vec<(u32, PathBuf)> =
        brokers.map(|id| (id, field.cluster.node(id).disk.path().join("log"))).collect();
    let mut compared = Compared::default();
    for topic in topics {
        for index in 0..topic.partitions.len() {
            match replicas::compare(&dirs, &format!("{}-{index}", topic.id)) {
                Ok(agreed) => {
                    compared.records += agreed.records;
                    compared.replicas += agreed.replicas;
                }
                Err(error) => scribe.violation(&format!("replicas of {} differ: {error}", topic.name)),
            }
        }
    }
    compared
}
