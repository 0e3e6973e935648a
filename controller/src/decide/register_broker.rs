//! A broker's process registers, or comes back to another active controller.
//!
//! A new process gets a new broker epoch and starts fenced. Its predecessor's places in ISRs are gone; whether its replicas
//! stay eligible depends on how the predecessor ended, on what its topics sync, and on whether the directories are the
//! same.

use std::sync::Arc;

use vltava_metadata::{BrokerImage, BrokerState, Endpoint, record};
use vltava_model::seeded::{SeededBug, seeded};
use vltava_model::{BrokerEpoch, ClusterId, DirectoryId, ErrorCode, IncarnationId, MetadataOffset, NodeId};
use vltava_proto::v1::RegisterBroker;

use super::departure::{Fate, Held, depart};
use super::topic_rules::CrashSafety;
use super::{Decision, Refusal, View, offset_after};
use crate::elections::Doubt;

/// The most endpoints and directories of one broker, and the longest of their names: a record must stay small.
const MAX_ENDPOINTS: usize = 32;
const MAX_DIRECTORIES: usize = 256;
const MAX_NAME_BYTES: usize = 255;

/// What to tell the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The process that was registered.
    pub incarnation: IncarnationId,
    /// Its epoch.
    pub broker_epoch: BrokerEpoch,
    /// The cluster.
    pub cluster: ClusterId,
    /// It has caught up when it has applied this many records (or more: what is committed when it is told).
    pub caught_up_at: MetadataOffset,
}

/// How the process before this one ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Predecessor {
    /// There was none, or it closed its logs.
    Clean,
    /// It died.
    Crashed,
}

/// Registers a process.
///
/// # Errors
/// INVALID_REQUEST, INCONSISTENT_CLUSTER_ID, UNSUPPORTED_VERSION: it can never join as it is.
/// DUPLICATE_BROKER_REGISTRATION while another process of that node has an open session.
pub fn decide(view: &View, request: &RegisterBroker) -> Result<Decision<Registration>, Refusal> {
    let cluster = check_cluster(view, request)?;
    check_features(view, request)?;
    let wanted = read(request)?;
    check_directories(view, &wanted)?;
    let node = wanted.node_id;
    let known = view.image.broker(node);
    if let Some(known) = known.filter(|known| known.incarnation == wanted.incarnation) {
        return Ok(resume(view, known, wanted, cluster));
    }
    if let Some(process) = view.liveness.connected_process(node, view.now)
        && process != wanted.incarnation
    {
        return Err(Refusal::new(
            ErrorCode::DuplicateBrokerRegistration,
            format!(
                "another process is broker {node} and has an open session: give each broker its own node.id"
            ),
        ));
    }
    let proof = request.previous_broker_epoch.map(BrokerEpoch::new);
    let predecessor = match known {
        Some(known) if proof != Some(known.broker_epoch) => Predecessor::Crashed,
        None if view.image.replica_count(node) > 0 => Predecessor::Crashed,
        _ => Predecessor::Clean,
    };
    let before = known.map_or(&[][..], |known| &known.directories);
    let lost_one = known.is_none() || before.iter().any(|id| !wanted.directories.contains(id));
    let mut records = depart(*view, node, |held| fate(held, &wanted, predecessor, lost_one));
    let broker_epoch = BrokerEpoch::new(offset_after(view, records.len()).get());
    let incarnation = wanted.incarnation;
    records.push(record::broker(&BrokerImage { broker_epoch, ..wanted }));
    let caught_up_at = offset_after(view, records.len());
    Ok(Decision { records, response: Registration { incarnation, broker_epoch, cluster, caught_up_at } })
}

/// What becomes of a replica of the process before.
///
/// A replica whose directory is not among the registered ones cannot be elected, and may come back with its directory; one
/// whose directory was never told is taken for lost when any directory is.
fn fate(held: &Held, wanted: &BrokerImage, predecessor: Predecessor, lost_one: bool) -> Fate {
    match held.image.directory_of(wanted.node_id) {
        None if lost_one && !seeded(SeededBug::KeepsWipedReplicasEligible) => Fate::Doubted(Doubt::IsEmpty),
        _ => match (predecessor, held.rules.crash) {
            (Predecessor::Crashed, CrashSafety::Relaxed) if !seeded(SeededBug::TrustsUncleanRestart) => {
                Fate::Doubted(Doubt::MayLackRecords)
            }
            (Predecessor::Crashed | Predecessor::Clean, _) => Fate::Leaves,
        },
    }
}

/// The same process: it keeps its epoch and its state (I31).
fn resume(
    view: &View,
    known: &Arc<BrokerImage>,
    wanted: BrokerImage,
    cluster: ClusterId,
) -> Decision<Registration> {
    // Directories stay as they are: what failed since is in the heartbeats, and only a new process brings one back.
    let (mut broker_epoch, state, directories) = (known.broker_epoch, known.state, known.directories.clone());
    if seeded(SeededBug::RenewsEpochOfSameProcess) {
        broker_epoch = BrokerEpoch::new(offset_after(view, 0).get());
    }
    let now = BrokerImage { broker_epoch, state, directories, ..wanted };
    let records = if now == **known { Vec::new() } else { vec![record::broker(&now)] };
    let caught_up_at = offset_after(view, records.len());
    let response = Registration { incarnation: known.incarnation, broker_epoch, cluster, caught_up_at };
    Decision { records, response }
}

fn check_cluster(view: &View, request: &RegisterBroker) -> Result<ClusterId, Refusal> {
    let Some(cluster) = view.image.cluster_id() else {
        return Err(Refusal::new(ErrorCode::NotController, "the cluster is not formed yet"));
    };
    if request.cluster_id.is_empty() || request.cluster_id == cluster.to_bytes()[..] {
        return Ok(cluster);
    }
    let theirs = ClusterId::from_slice(&request.cluster_id);
    let theirs = theirs.map_or("malformed".to_owned(), |id| id.to_string());
    Err(Refusal::new(
        ErrorCode::InconsistentClusterId,
        format!("the broker's directories belong to cluster {theirs}, this is cluster {cluster}"),
    ))
}

fn check_features(view: &View, request: &RegisterBroker) -> Result<(), Refusal> {
    for (name, level) in view.image.features().iter() {
        let supported = request.features.get(name).copied().unwrap_or(0);
        if supported < level {
            return Err(Refusal::new(
                ErrorCode::UnsupportedVersion,
                format!("the cluster uses {name} {level}, the broker knows {supported}: upgrade it"),
            ));
        }
    }
    Ok(())
}

/// Reads a request; the epoch is not given yet.
fn read(request: &RegisterBroker) -> Result<BrokerImage, Refusal> {
    let invalid = |what: String| Refusal::new(ErrorCode::InvalidRequest, what);
    let incarnation = IncarnationId::from_slice(&request.incarnation_id)
        .ok_or_else(|| invalid("an incarnation id is 16 bytes".into()))?;
    let endpoints = request.endpoints.iter().map(Endpoint::from_proto).collect::<Result<Vec<_>, _>>();
    let directory = |bytes: &bytes::Bytes| {
        DirectoryId::from_slice(bytes)
            .filter(|id| *id != DirectoryId::default())
            .ok_or_else(|| invalid("a directory id is 16 bytes, not all zero".into()))
    };
    let directories = request.directories.iter().map(directory).collect::<Result<Vec<_>, _>>()?;
    if directories.is_empty() {
        return Err(invalid("a broker needs at least one log directory that works".into()));
    }
    if let Some(what) = excess(request) {
        return Err(invalid(what));
    }
    Ok(BrokerImage {
        node_id: NodeId::new(request.node_id),
        broker_epoch: BrokerEpoch::ZERO,
        incarnation,
        endpoints: endpoints.map_err(|fault| invalid(fault.to_string()))?,
        rack: request.rack.clone().filter(|rack| !rack.is_empty()),
        directories,
        state: BrokerState::Fenced,
    })
}

/// What a registration has too much of.
fn excess(request: &RegisterBroker) -> Option<String> {
    if request.endpoints.len() > MAX_ENDPOINTS || request.directories.len() > MAX_DIRECTORIES {
        return Some(format!(
            "a broker has at most {MAX_ENDPOINTS} endpoints and {MAX_DIRECTORIES} log directories"
        ));
    }
    let of_endpoints = request.endpoints.iter().flat_map(|endpoint| [&endpoint.listener, &endpoint.host]);
    let mut names = of_endpoints.chain(&request.rack);
    names
        .any(|name| name.len() > MAX_NAME_BYTES)
        .then(|| format!("listeners, hosts and racks have names of at most {MAX_NAME_BYTES} bytes"))
}

/// A directory belongs to one broker: a copied disk must not pass for another replica.
fn check_directories(view: &View, wanted: &BrokerImage) -> Result<(), Refusal> {
    let ids = &wanted.directories;
    if let Some(twice) = ids.iter().enumerate().find(|(i, id)| ids[..*i].contains(id)) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, format!("directory {} is named twice", twice.1)));
    }
    let others = view.image.brokers().filter(|other| other.node_id != wanted.node_id);
    for other in others {
        if let Some(id) = ids.iter().find(|id| other.directories.contains(id)) {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "directory {id} belongs to broker {}: log directories must not be copied",
                    other.node_id
                ),
            ));
        }
    }
    Ok(())
}
