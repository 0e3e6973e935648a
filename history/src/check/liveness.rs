//! How long partitions took no writes, and how soon they took them again after a fault. Judges by operations as they
//! complete; what an idle producer does not ask for is nobody's fault.

use std::collections::HashMap;
use std::time::Duration;

use crate::check::verdict::FaultSpan;
use crate::event::{Acks, At, FaultBegins, Outcome, PartitionRef, Produce};

/// Gaps shorter than this are not worth telling.
const GAP_MIN: Duration = Duration::from_millis(200);

/// A time in which a partition was asked to write and acknowledged nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Which partition.
    pub partition: PartitionRef,
    /// From the last ack, or from when something was asked for.
    pub from: At,
    /// To the next ack, or to when the last operation was given up.
    pub to: At,
    /// The longest part of it in which no fault was at work, nor had been for the time to settle.
    pub healthy: Duration,
}

impl Gap {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// How soon a partition whose leader was hit was writable again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// What hit it: the fault's place in [`crate::Verdict::faults`].
    pub fault: usize,
    /// Which partition.
    pub partition: PartitionRef,
    /// From the fault's begin to the first ack of a record handed over after it; `None` when none came.
    pub took: Option<Duration>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Liveness {
    /// Gaps of 200 ms and more, longest first.
    pub gaps: Vec<Gap>,
    /// The longest time without an ack while no fault was at work, over all partitions.
    pub longest_healthy: Duration,
    /// By fault.
    pub recoveries: Vec<Recovery>,
    /// What partitions are called.
    pub names: HashMap<PartitionRef, String>,
}

#[derive(Default)]
struct Watched {
    last_ack: Option<At>,
    /// The earliest start of what completed without an ack since the last one.
    wanted_since: Option<At>,
    /// When the last of them was given up.
    given_up: Option<At>,
    /// Recoveries to come.
    hit: Vec<usize>,
}

impl Watched {
    /// Notes what was asked for in vain.
    fn close(&mut self, partition: PartitionRef, gaps: &mut Vec<Gap>) {
        if let (Some(since), Some(given_up)) = (self.wanted_since.take(), self.given_up.take()) {
            let from = self.last_ack.map_or(since, |last| last.max(since));
            note(gaps, partition, from, given_up);
        }
    }
}

/// Watches operations as they are recorded.
#[derive(Default)]
pub(super) struct Watch {
    partitions: HashMap<PartitionRef, Watched>,
    gaps: Vec<Gap>,
    recoveries: Vec<Recovery>,
    begins: Vec<At>,
}

impl Watch {
    pub(super) fn fault(&mut self, fault: &FaultBegins) {
        for led in &fault.leads {
            self.partitions.entry(*led).or_default().hit.push(self.recoveries.len());
            self.recoveries.push(Recovery { fault: self.begins.len(), partition: *led, took: None });
        }
        self.begins.push(fault.at);
    }

    pub(super) fn produced(&mut self, produce: &Produce) {
        if produce.acks == Acks::None {
            return;
        }
        let watched = self.partitions.entry(produce.partition).or_default();
        if watched.given_up.is_some_and(|given_up| given_up < produce.invoked) {
            // Nothing was asked for between that and this.
            watched.close(produce.partition, &mut self.gaps);
        }
        let wanted = watched.wanted_since.map_or(produce.invoked, |since| since.min(produce.invoked));
        if !matches!(produce.outcome, Outcome::Ok(_)) {
            watched.wanted_since = Some(wanted);
            watched.given_up = watched.given_up.max(Some(produce.completed));
            return;
        }
        let from = watched.last_ack.map_or(wanted, |last| last.max(wanted));
        watched.last_ack = watched.last_ack.max(Some(produce.completed));
        (watched.wanted_since, watched.given_up) = (None, None);
        note(&mut self.gaps, produce.partition, from, produce.completed);
        let (recoveries, begins) = (&mut self.recoveries, &self.begins);
        watched.hit.retain(|hit| {
            let recovery = &mut recoveries[*hit];
            let begin = begins[recovery.fault];
            if produce.invoked >= begin {
                recovery.took = Some(produce.completed.since(begin));
            }
            recovery.took.is_none()
        });
    }

    /// The result; partitions of deleted topics owe no more acks.
    pub(super) fn finish(
        mut self,
        faults: &[FaultSpan],
        settle: Duration,
        deleted: impl Fn(PartitionRef) -> bool,
    ) -> Liveness {
        for (partition, watched) in self.partitions.iter_mut().filter(|(partition, _)| !deleted(**partition))
        {
            watched.close(*partition, &mut self.gaps);
        }
        let unhealthy = unhealthy(faults, settle);
        for gap in &mut self.gaps {
            gap.healthy = longest_healthy(gap.from, gap.to, &unhealthy);
        }
        self.gaps.sort_by_key(|gap| (std::cmp::Reverse(gap.length()), gap.from, gap.partition));
        let longest_healthy = self.gaps.iter().map(|gap| gap.healthy).max().unwrap_or_default();
        Liveness { gaps: self.gaps, longest_healthy, recoveries: self.recoveries, names: HashMap::new() }
    }
}

fn note(gaps: &mut Vec<Gap>, partition: PartitionRef, from: At, to: At) {
    if to.since(from) >= GAP_MIN {
        gaps.push(Gap { partition, from, to, healthy: Duration::ZERO });
    }
}

/// The times in which a fault was at work or the cluster settles, joined and ascending.
fn unhealthy(faults: &[FaultSpan], settle: Duration) -> Vec<(At, At)> {
    let end = |fault: &FaultSpan| fault.end.map_or(At::nanos(u64::MAX), |end| end.plus(settle));
    let mut spans: Vec<(At, At)> = faults.iter().map(|fault| (fault.begin, end(fault))).collect();
    spans.sort_unstable();
    let mut joined: Vec<(At, At)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn longest_healthy(from: At, to: At, unhealthy: &[(At, At)]) -> Duration {
    let mut longest = Duration::ZERO;
    let mut healthy_since = from;
    let first = unhealthy.partition_point(|span| span.1 <= from);
    for span in unhealthy[first..].iter().take_while(|span| span.0 < to) {
        longest = longest.max(span.0.since(healthy_since));
        healthy_since = span.1;
    }
    longest.max(to.since(healthy_since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> At {
        At::nanos(second * 1_000_000_000)
    }

    fn fault(begin: u64, end: Option<u64>) -> FaultSpan {
        FaultSpan {
            kind: String::new(),
            nodes: Vec::new(),
            detail: String::new(),
            begin: second(begin),
            end: end.map(second),
        }
    }

    fn produce(invoked: u64, completed: u64, outcome: Outcome<Option<vltava_model::Offset>>) -> Produce {
        Produce {
            producer: crate::event::ClientRef::new(0),
            partition: PartitionRef::new(0),
            seq: 0,
            count: 1,
            acks: Acks::All,
            invoked: second(invoked),
            completed: second(completed),
            outcome,
        }
    }

    #[test]
    fn faults_and_the_time_to_settle_are_left_out() {
        let settle = Duration::from_secs(5);
        let faults = [fault(20, Some(30)), fault(10, Some(22)), fault(100, None)];
        let unhealthy = unhealthy(&faults, settle);
        assert_eq!(unhealthy, [(second(10), second(35)), (second(100), At::nanos(u64::MAX))]);
        let healthy = |from, to| longest_healthy(second(from), second(to), &unhealthy).as_secs();
        assert_eq!(healthy(0, 8), 8);
        assert_eq!(healthy(0, 12), 10);
        assert_eq!(healthy(11, 34), 0);
        assert_eq!(healthy(0, 60), 25);
        assert_eq!(healthy(90, 200), 10);
        assert_eq!(healthy(120, 200), 0);
    }

    #[test]
    fn idle_producers_make_no_gap_and_failed_ones_do() {
        let mut watch = Watch::default();
        watch.produced(&produce(0, 1, Outcome::Ok(None)));
        // Idle from 1 to 50.
        watch.produced(&produce(50, 51, Outcome::Ok(None)));
        watch.produced(&produce(52, 60, Outcome::Unknown(String::new())));
        watch.produced(&produce(60, 63, Outcome::Ok(None)));
        watch.produced(&produce(70, 90, Outcome::Failed(String::new())));
        // Idle again.
        watch.produced(&produce(200, 201, Outcome::Unknown(String::new())));
        let found = watch.finish(&[], Duration::ZERO, |_| false);
        let gaps: Vec<_> = found.gaps.iter().map(|gap| (gap.from, gap.to)).collect();
        let expected = [(70, 90), (52, 63), (0, 1), (50, 51), (200, 201)];
        assert_eq!(gaps, expected.map(|(from, to)| (second(from), second(to))));
        assert_eq!(found.longest_healthy, Duration::from_secs(20));
    }

    #[test]
    fn a_recovery_ends_with_what_was_handed_over_after_the_fault() {
        let mut watch = Watch::default();
        let hit = FaultBegins {
            fault: crate::event::FaultRef::new(0),
            kind: "kill".to_owned(),
            nodes: Vec::new(),
            detail: String::new(),
            leads: vec![PartitionRef::new(0), PartitionRef::new(1)],
            at: second(10),
        };
        watch.fault(&hit);
        watch.produced(&produce(9, 11, Outcome::Ok(None)));
        watch.produced(&produce(12, 13, Outcome::Ok(None)));
        watch.produced(&produce(14, 15, Outcome::Ok(None)));
        let found = watch.finish(&[], Duration::ZERO, |_| false);
        let took: Vec<_> = found.recoveries.iter().map(|recovery| recovery.took).collect();
        assert_eq!(took, [Some(Duration::from_secs(3)), None]);
    }
}
