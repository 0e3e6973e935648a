//! How replicas come to be served: opened, set aside when they are damaged, begun anew when another has what they had.
//!
//! Nothing is deleted before committed metadata say that the replica counts for nothing and that another leads.

use vltava_commitlog::log::{Log, LogConfig, Scan};
use vltava_model::{DirectoryId, LeaderEpoch, TopicPartition};

use super::Worker;
use crate::api::log::wall_ms;
use crate::damages::{Cause, Verdict};
use crate::directories::{BeginAnewError, Journaling, OpenLogError};
use crate::shard::command::Assign;
use crate::shard::host::Host;
use crate::shard::shared::Standing;

impl Worker {
    /// Committed metadata about a partition.
    pub(super) fn assign(&mut self, assign: Assign) {
        if !self.with(assign.partition, |host, turn| host.assign(turn, assign.clone())) {
            self.begin(assign);
        }
    }

    /// Serves a replica, if that may be.
    fn begin(&mut self, assign: Assign) {
        let partition = assign.partition;
        let Some(directory) = assign.directory else {
            tracing::error!(%partition, "its log directory failed: the replica stays offline");
            return assign.shared.set_standing(Standing::Offline);
        };
        let was_waiting = self.waiting.remove(&partition).is_some();
        match self.state.damages.verdict(partition, self.state.node_id, &assign.image) {
            Verdict::Open => self.open(assign, directory, Scan::Needed),
            Verdict::BeginAnew => self.begin_anew(assign, directory),
            Verdict::Unrecorded | Verdict::LeftAlone => self.wait(assign),
            Verdict::Leaderless if !was_waiting && self.may_be_restored(&assign, directory) => {
                tracing::info!(%partition, topic = %assign.topic_name, "the replica was damaged and is not marked so any more: reading all of it");
                self.open(assign, directory, Scan::All);
            }
            Verdict::Leaderless => {
                self.advise(&assign, directory);
                self.wait(assign);
            }
        }
    }

    fn wait(&mut self, assign: Assign) {
        assign.shared.set_standing(Standing::Offline);
        self.waiting.insert(assign.partition, assign);
    }

    /// Tries again what could not be done when metadata allowed it.
    pub(super) fn try_again(&mut self) {
        let me = self.state.node_id;
        let due = |assign: &&Assign| {
            self.state.damages.verdict(assign.partition, me, &assign.image) == Verdict::BeginAnew
        };
        let due: Vec<Assign> = self.waiting.values().filter(due).cloned().collect();
        for assign in due {
            self.begin(assign);
        }
    }

    /// Whether the only replica that had everything was restored, as somebody says who removed the mark.
    fn may_be_restored(&self, assign: &Assign, directory: DirectoryId) -> bool {
        let (partition, me) = (assign.partition, self.state.node_id);
        let counts = assign.image.damaged.iter().any(|damaged| damaged.node == me && damaged.was_eligible);
        counts && matches!(self.state.directories.damage_mark(directory, partition), Ok(None))
    }

    fn open(&mut self, assign: Assign, directory: DirectoryId, scan: Scan) {
        let partition = assign.partition;
        let log = match self.open_log(&assign, directory, scan) {
            Ok(log) => log,
            Err(OpenLogError::Newer(what)) => {
                self.found(partition, directory, self.untold(&assign), Cause::NewerFormat, &what);
                return self.wait(assign);
            }
            Err(OpenLogError::Damaged(what)) => {
                let recorded = assign.image.is_damaged(self.state.node_id);
                self.found(partition, directory, self.untold(&assign), Cause::Damage, &what);
                if recorded && assign.image.leader.is_none() {
                    self.advise(&assign, directory);
                }
                return self.wait(assign);
            }
            Err(OpenLogError::Io(error)) => {
                tracing::error!(%partition, %error, "cannot open the log: its directory goes offline");
                self.state.directories.fail(directory, &error.to_string());
                self.fail_directory(directory);
                return assign.shared.set_standing(Standing::Offline);
            }
        };
        if scan == Scan::All {
            tracing::info!(%partition, topic = %assign.topic_name, "every byte of the replica is right: it counts again");
            self.state.damages.restored(partition, assign.image.partition_epoch);
        }
        let (hosts, mut turn) = self.parts();
        let host = Host::new(&mut turn, log, directory, assign.clone());
        hosts.insert(partition, host);
        self.with(partition, |host, turn| host.assign(turn, assign));
    }

    /// Above which leader epoch the controller has to have recorded that a replica can't be opened: this process has told
    /// nobody of it.
    fn untold(&self, assign: &Assign) -> Option<LeaderEpoch> {
        (!assign.image.is_damaged(self.state.node_id)).then_some(assign.image.leader_epoch)
    }

    /// Opens a log, and sees to it that all of it is on stable storage: only that counts.
    fn open_log(&mut self, assign: &Assign, directory: DirectoryId, scan: Scan) -> Result<Log, OpenLogError> {
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let config = LogConfig {
            segment_bytes: narrow(assign.config.segment_bytes),
            index_interval_bytes: narrow(assign.config.index_interval_bytes),
            segment_index_bytes: narrow(assign.config.segment_index_bytes),
            ..LogConfig::default()
        };
        let directories = &self.state.directories;
        let (partition, topic) = (assign.partition, &assign.topic_name);
        let mut log = directories.open_log(directory, partition, topic, (config, scan), wall_ms())?;
        let report = log.recovery_report();
        if report.rewritten_bytes > 0 || report.cut.is_some() {
            tracing::info!(%partition, %topic, rewritten = report.rewritten_bytes, cut = ?report.cut, "recovered the log");
        }
        let journaling = if assign.config.is_synced() { Journaling::Each } else { Journaling::None };
        if let Some(point) = directories.secure(directory, partition, &mut log, journaling)? {
            self.points.push((directory, partition, point));
        }
        Ok(log)
    }

    /// A served replica is damaged, or partly of a later release: it serves nobody any more, and the controller is told.
    pub(super) fn damaged(&mut self, partition: TopicPartition, cause: Cause, what: &str) {
        self.with(partition, |host, turn| {
            host.stop(turn);
            host.settle(turn);
        });
        let Some(mut host) = self.hosts.remove(&partition) else { return };
        let (directory, above, assign) = (host.directory(), host.newest_epoch(), host.assigned().clone());
        self.claim(directory, partition, host.log());
        drop(host);
        self.found(partition, directory, Some(above), cause, what);
        self.wait(assign);
    }

    /// If somebody restores it, all of the log must be there: a shorter one is not what it was.
    fn claim(&mut self, directory: DirectoryId, partition: TopicPartition, log: &mut Log) {
        // A log whose change failed gives no files: what it lacks then is noticed, and not repaired from the journal.
        if let Ok(point) = log.sync_point()
            && let Err(error) = point.files.iter().try_for_each(|file| file.sync_data())
        {
            self.state.directories.fail(directory, &error.to_string());
            self.fail_directory(directory);
        }
        self.points.push((directory, partition, log.log_end()));
        self.save_points();
    }

    fn found(
        &mut self,
        partition: TopicPartition,
        directory: DirectoryId,
        above: Option<LeaderEpoch>,
        cause: Cause,
        what: &str,
    ) {
        let is_new = self.state.damages.found(partition, above, cause, what);
        match cause {
            Cause::Damage => {
                if is_new {
                    self.state.metrics.damage_found.add(1);
                    tracing::error!(%partition, what, "the replica is damaged: it is served no more, and copied anew from another");
                }
                self.mark_damaged(directory, partition, what);
            }
            Cause::NewerFormat if is_new => tracing::error!(
                %partition,
                what,
                "a later release wrote this replica: it is not served here and left as it is, and leadership goes to another; all \
                 other replicas go on. Start the later release on this node. (A start of either release copies the replica anew \
                 where another one leads.)"
            ),
            Cause::NewerFormat => {}
        }
    }

    /// So that the next start does not trust it either.
    pub(super) fn mark_damaged(&self, directory: DirectoryId, partition: TopicPartition, what: &str) {
        if let Err(error) = self.state.directories.mark_damaged(directory, partition, what) {
            // The controller's record says the same, and the damage itself can be found again.
            tracing::warn!(%partition, %error, "cannot mark the replica as damaged");
        }
    }

    fn begin_anew(&mut self, assign: Assign, directory: DirectoryId) {
        let partition = assign.partition;
        // What is not saved yet is of the log that goes.
        self.points.retain(|(_, of, _)| *of != partition);
        match self.state.directories.begin_anew(directory, partition) {
            Ok(()) => {
                tracing::info!(%partition, topic = %assign.topic_name, leader = ?assign.image.leader, "deleted the damaged replica: copying it anew from its leader");
                self.state.metrics.begun_anew.add(1);
                self.state.damages.begun_anew(partition, assign.image.partition_epoch);
                self.open(assign, directory, Scan::Needed);
            }
            Err(BeginAnewError::Journal) => self.wait(assign),
            Err(BeginAnewError::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(%partition, %error, "cannot delete the damaged replica yet");
                self.wait(assign);
            }
            Err(BeginAnewError::Io(error)) => {
                tracing::error!(%partition, %error, "cannot delete the damaged replica: its directory goes offline");
                self.state.directories.fail(directory, &error.to_string());
                self.fail_directory(directory);
                self.wait(assign);
            }
        }
    }

    /// Says once what an operator can do.
    fn advise(&self, assign: &Assign, directory: DirectoryId) {
        let (partition, topic) = (assign.partition, &assign.topic_name);
        let known = assign.image.damaged.iter().find(|damaged| damaged.node == self.state.node_id);
        let what = known.map_or("", |damaged| &damaged.what);
        // After a start it is known from metadata only.
        self.state.damages.found(partition, None, Cause::Damage, what);
        let Some(what) = self.state.damages.advise_once(partition) else { return };
        let mark = self.state.directories.damage_mark_path(directory, partition);
        tracing::error!(
            %partition,
            %topic,
            %what,
            "the replica is damaged and nobody leads: it stays offline. Start a broker that has a whole replica; or stop this \
             one, restore the file, remove {} and start it; or give up what only this replica has: vltava topics elect-leaders \
             {topic} --partition {} --election-type unclean",
            mark.display(),
            partition.partition,
        );
    }
}
