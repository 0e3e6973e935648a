//! Puts the operations that violations name by number into words, on a second look at the history.

use std::collections::BTreeMap;

use super::verdict::Violations;
use crate::event::{Action, Alien, Event, Outcome, Poll, Produce, Seen};

/// How many entries of a poll are told.
const SEEN_TOLD: usize = 6;

/// Collects the operations that are named.
pub(super) struct Explain {
    wanted: BTreeMap<u64, String>,
    number: u64,
}

impl Explain {
    pub(super) fn new(violations: &Violations) -> Self {
        let named = violations.told().iter().flat_map(|violation| &violation.events);
        Self { wanted: named.map(|event| (*event, String::new())).collect(), number: 0 }
    }

    pub(super) fn observe(&mut self, event: &Event) {
        if let Some(text) = self.wanted.get_mut(&self.number) {
            *text = format!("#{} {}", self.number, tell(event));
        }
        self.number += 1;
    }

    pub(super) fn finish(self, violations: &mut Violations) {
        for violation in violations.told_mut() {
            let texts = violation.events.iter().filter_map(|event| self.wanted.get(event));
            violation.operations = texts.cloned().collect();
        }
    }
}

fn tell(event: &Event) -> String {
    match event {
        Event::Produce(produce) => tell_produce(produce),
        Event::Poll(poll) => tell_poll(poll),
        Event::Admin(admin) => {
            let action = match &admin.action {
                Action::CreateTopic { name, .. } => format!("creates {name}"),
                Action::DeleteTopic { topic } => format!("deletes topic {topic}"),
                Action::DeleteRecords { partition, before } => {
                    format!("deletes partition {partition}'s records below {before}")
                }
                Action::Other(what) => what.clone(),
            };
            format!(
                "[{} to {}] client {} {action}: {:?}",
                admin.invoked, admin.completed, admin.client, admin.outcome
            )
        }
        other => format!("{other:?}"),
    }
}

fn tell_produce(produce: &Produce) -> String {
    let Produce { producer, partition, seq, count, acks, invoked, completed, outcome } = produce;
    let last = seq + u64::from(*count) - 1;
    let outcome = match outcome {
        Outcome::Ok(Some(offset)) => format!("acknowledged from offset {offset}"),
        Outcome::Ok(None) => "done, no offset told".to_owned(),
        Outcome::Failed(reason) => format!("failed for certain: {reason}"),
        Outcome::Unknown(reason) => format!("outcome unknown: {reason}"),
    };
    format!(
        "[{invoked} to {completed}] producer {producer} sent records {seq}..={last} to partition {partition}, acks {acks:?}: {outcome}"
    )
}

fn tell_poll(poll: &Poll) -> String {
    let mut text = format!(
        "[{} to {}] consumer {} read partition {} ({:?}), high watermark {:?}, log start {:?}:",
        poll.invoked,
        poll.completed,
        poll.consumer,
        poll.partition,
        poll.reading,
        poll.high_watermark.map(vltava_model::Offset::get),
        poll.log_start.map(vltava_model::Offset::get),
    );
    for seen in poll.seen.iter().take(SEEN_TOLD) {
        let entry = match seen {
            Seen::Records { offset, producer, seq, count } => {
                format!(" {offset}+{count} = producer {producer}'s {seq}..;")
            }
            Seen::Alien { offset, alien } => match &**alien {
                Alien::Corrupt(reason) => format!(" {offset} corrupt ({reason});"),
                Alien::Misplaced(payload) | Alien::Foreign(payload) => format!(" {offset} {payload};"),
            },
        };
        text.push_str(&entry);
    }
    if poll.seen.len() > SEEN_TOLD {
        text.push_str(&format!(" and {} more runs", poll.seen.len() - SEEN_TOLD));
    }
    text
}
