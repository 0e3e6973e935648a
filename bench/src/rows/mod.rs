//! What is measured: one function a row, each with a cluster of its own.

mod broker;
mod crowd;
mod faults;
mod image;
mod latency;
mod produce;
mod scale;

use tokio::runtime::Runtime;

use crate::Fallible;
use crate::cluster::{Cluster, Site};
use crate::load::Span;
use crate::report::Row;
use crate::usage;

/// What all rows share.
pub struct Bench {
    /// The binary and the disk.
    pub site: Site,
    /// Where clients run.
    pub runtime: Runtime,
    /// How often each figure is taken.
    pub repetitions: u32,
    /// How long loads take.
    pub span: Span,
}

impl Bench {
    fn three(&self) -> Fallible<Cluster> {
        Cluster::start(&self.site, 3)
    }
}

/// A row that can be asked for.
pub struct Spec {
    /// As on the command line.
    pub id: &'static str,
    /// In a line.
    pub about: &'static str,
    run: fn(&Bench, &mut Row) -> Fallible<()>,
}

const fn spec(id: &'static str, about: &'static str, run: fn(&Bench, &mut Row) -> Fallible<()>) -> Spec {
    Spec { id, about, run }
}

/// All rows, in the order in which they are measured.
pub const ALL: &[Spec] = &[
    spec("one-in-flight", "One record in flight", latency::one_in_flight),
    spec("open-1k", "Open loop, 1,000 records/s", latency::open_1k),
    spec("open-5k", "Open loop, 5,000 records/s over 6 and over 500 partitions", latency::open_5k),
    spec("end-to-end", "Produce to consume, 1,000 records/s", latency::end_to_end),
    spec("batch-16k", "Produce in batches of 16 KiB", produce::batch_16k),
    spec("batch-1m", "Produce in batches of 1 MB", produce::batch_1m),
    spec("unsynced", "One broker, one replica, not synced: what bytes in cost", broker::unsynced),
    spec("backlog", "One broker: what bytes out cost by gRPC", broker::backlog),
    spec("producers", "50 producers instead of one at the same rate", crowd::producers),
    spec("catch-up", "A follower catches up beside a load", crowd::catch_up),
    spec("image", "The image of 200,000 partitions", image::image),
    spec("kill-leader", "kill -9 of a leader", faults::kill_leader),
    spec("kill-follower", "kill -9 of a follower", faults::kill_follower),
    spec("kill-leader-controller", "kill -9 of a leader that is the active controller", faults::kill_both),
    spec("stop-leader", "SIGSTOP of a leader", faults::stop_leader),
    spec("kill-controller", "kill -9 of the active controller: next topic created", faults::kill_controller),
    spec("rolling-restart", "Rolling restart by SIGTERM", faults::rolling_restart),
    spec("partitions-1k", "1,000 partitions x 3 created: all serve", scale::create_partitions),
    spec("idle", "Three idle nodes with 1,000 partitions: CPU, memory", scale::idle),
    spec(
        "restart-10k",
        "10,000 partitions x 3 with data: all serve after kill -9 and restart of a node",
        scale::restart,
    ),
    spec("start", "Start of one empty node to the first acknowledged write", scale::start),
];

/// Measures the rows that are wanted; one that fails says so in its notes, and keeps what it has.
pub fn measure(bench: &Bench, wanted: impl Fn(&str) -> bool, mut done: impl FnMut(Row)) {
    for spec in ALL.iter().filter(|spec| wanted(spec.id)) {
        let mut row = Row {
            id: spec.id,
            title: spec.about.to_owned(),
            setting: String::new(),
            measures: Vec::new(),
            notes: Vec::new(),
        };
        let before = usage::load_average();
        if let Err(error) = (spec.run)(bench, &mut row) {
            row.notes.push(format!("FAILED, the figures above are incomplete: {error}"));
        }
        row.notes.push(format!("load average {before} before, {} after", usage::load_average()));
        done(row);
    }
}
