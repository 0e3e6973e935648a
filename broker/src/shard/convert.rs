//! Between the nouns of metadata, configs and logs and those of a partition's machine. Decides nothing.

use vltava_commitlog::log::Log;
use vltava_metadata::PartitionImage;
use vltava_model::Offset;
use vltava_model::batch::Batch;
use vltava_partition::{
    Assignment, Durability, LeaderRecovery, LocalLog, PartitionState, Settings, UncleanElection,
};

use super::command::Assign;
use super::worker::Turn;

/// Whether each batch begins where the one before ends.
pub(super) fn are_contiguous(batches: &[Batch]) -> bool {
    batches.windows(2).all(|pair| pair[0].header().end_offset() == pair[1].header().base_offset)
}

/// A log that was just opened, and synced to its end.
pub(super) fn local_log(log: &Log, high_watermark: Offset) -> LocalLog {
    LocalLog {
        log_start: log.log_start(),
        high_watermark: high_watermark.max(log.log_start()),
        durable_end: log.log_end(),
        log_end: log.log_end(),
        epochs: log.epochs().clone(),
    }
}

/// What a topic and this broker are configured to.
pub(super) fn settings(turn: &Turn<'_>, assign: &Assign) -> Settings {
    let durability = if assign.config.is_synced() { Durability::Synced } else { Durability::Relaxed };
    let unclean_election = match assign.config.unclean_leader_election {
        true => UncleanElection::Allowed,
        false => UncleanElection::Forbidden,
    };
    let options = &turn.state.options;
    let min_insync = assign.config.min_insync_replicas;
    Settings {
        unclean_election,
        stall_time_max: options.replica_stall_max.min(options.replica_lag_max),
        ..Settings::new(min_insync, options.replica_lag_max, durability)
    }
}

/// What metadata say of a partition and of those that hold it.
pub(super) fn assignment(assign: &Assign) -> Assignment {
    Assignment { state: partition_state(&assign.image), eligible: assign.eligible.clone() }
}

/// A partition's metadata as its machine takes it.
pub fn partition_state(image: &PartitionImage) -> PartitionState {
    PartitionState {
        leader: image.leader,
        leader_epoch: image.leader_epoch,
        partition_epoch: image.partition_epoch,
        replicas: image.replicas.clone(),
        isr: image.isr.clone(),
        elr: image.elr.clone(),
        recovery: match image.leader_recovery {
            vltava_metadata::LeaderRecovery::Recovered => LeaderRecovery::Recovered,
            vltava_metadata::LeaderRecovery::Recovering => LeaderRecovery::Recovering,
        },
    }
}
