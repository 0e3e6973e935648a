//! The checker against good histories and broken ones.

use super::*;
use crate::check::{Kind, Options, Verdict, check_events};
use crate::{Judgement, check};

fn checked(events: &[Event]) -> Verdict {
    check_events(events, Options { unavailable: Some(Duration::from_secs(20)), ..Options::default() })
}

#[test]
fn good_histories_pass() {
    let mut all = check::Counts::default();
    for seed in 0..60 {
        let verdict = checked(&good_history(seed, Shape::SMALL));
        assert_eq!(verdict.judgement(), Judgement::Pass, "seed {seed}: {:#?}", verdict.violations);
        let counts = verdict.counts;
        let accounted = counts.verified + counts.deleted + counts.trimmed;
        assert_eq!(counts.acked, accounted, "seed {seed}: every acked record is accounted for: {counts:?}");
        assert_eq!(counts.unknown, counts.unknown_appeared + counts.unknown_absent, "seed {seed}");
        all.verified += counts.verified;
        all.unknown_appeared += counts.unknown_appeared;
        all.unknown_absent += counts.unknown_absent;
        all.failed += counts.failed;
        all.deleted += counts.deleted;
        all.trimmed += counts.trimmed;
        all.repeated += counts.repeated;
        all.read_along += counts.read_along;
    }
    // Each of these must occur, or what passes has shown nothing.
    let check::Counts { verified, unknown_appeared, unknown_absent, failed, .. } = all;
    let check::Counts { deleted, trimmed, repeated, read_along, .. } = all;
    let seen = [verified, unknown_appeared, unknown_absent, failed, deleted, trimmed, repeated, read_along];
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

#[test]
fn every_kind_of_violation_is_found_and_is_of_that_kind() {
    for kind in Kind::ALL {
        let mut broken = 0;
        for seed in 0..25 {
            let mut events = good_history(seed, Shape::SMALL);
            let Some(place) = break_history(&mut events, kind, seed) else { continue };
            broken += 1;
            let violations = checked(&events).violations;
            let found: Vec<Kind> = violations.counts().map(|(kind, _)| kind).collect();
            assert_eq!(found, [kind], "seed {seed}, {place}: {:#?}", violations.told());
            let told = &violations.told()[0];
            let explained = !told.operations.is_empty() || matches!(kind, Kind::Hole | Kind::Unavailable);
            assert!(explained, "seed {seed}: {told:?}");
        }
        assert!(broken >= 18, "{kind}: only {broken} of 25 histories had a place for it");
    }
}

/// Of partition 1, none of which can be read in the end: how many there were.
fn lose_all(events: &mut [Event]) -> u64 {
    let lost = events.iter().filter_map(|event| match event {
        Event::Produce(Produce { partition, count, outcome: Outcome::Ok(_), .. }) => {
            Some((*partition, *count))
        }
        _ => None,
    });
    let partition = PartitionRef::new(1);
    let lost: u64 = lost.filter(|(of, _)| *of == partition).map(|(_, count)| u64::from(count)).sum();
    for event in events {
        if let Event::Poll(poll) = event
            && poll.partition == partition
        {
            poll.seen.clear();
            poll.high_watermark = Some(Offset::ZERO);
        }
    }
    lost
}

#[test]
fn an_acknowledged_record_is_missed_also_where_nobody_was_told_its_offset() {
    let mut events = good_history(1, Shape::SMALL);
    for event in &mut events {
        if let Event::Produce(Produce { acks: Acks::All, outcome: Outcome::Ok(offset), .. }) = event {
            *offset = None;
        }
    }
    let verdict = checked(&events);
    assert_eq!(verdict.judgement(), Judgement::Pass, "{:#?}", verdict.violations);
    assert!(verdict.counts.verified > 20);
    let lost = lose_all(&mut events);
    assert_eq!(checked(&events).violations.count(Kind::LostWrite), lost);
}

#[test]
fn violations_are_counted_exactly_and_told_up_to_a_number() {
    let mut events = good_history(1, Shape::SMALL);
    let lost = lose_all(&mut events);
    let violations = checked(&events).violations;
    assert!(lost > 20);
    assert_eq!(violations.count(Kind::LostWrite), lost);
    assert_eq!(violations.total(), lost);
    assert_eq!(violations.told().len(), 20);
}

#[test]
fn a_history_that_was_cut_off_or_not_read_to_its_end_proves_nothing() {
    let mut events = good_history(2, Shape::SMALL);
    events.pop();
    assert_eq!(checked(&events).judgement(), Judgement::Inconclusive);

    let mut events = good_history(2, Shape::SMALL);
    let is_final = |event: &Event| matches!(event, Event::Poll(poll) if poll.reading == Reading::Final);
    let last = events.iter().rposition(is_final).unwrap();
    if let Event::Poll(poll) = &mut events[last] {
        poll.seen.truncate(1);
    }
    let verdict = checked(&events);
    // What a consumer saw beside the load is verified by that; the rest was not looked at.
    assert_eq!(verdict.violations.total(), 0, "{:#?}", verdict.violations);
    events.retain(|event| !is_final(event));
    let verdict = checked(&events);
    assert_eq!(verdict.violations.total(), 0, "{:#?}", verdict.violations);
}

#[test]
fn a_history_is_the_same_from_the_same_seed() {
    assert_eq!(good_history(7, Shape::SMALL), good_history(7, Shape::SMALL));
    assert_ne!(good_history(7, Shape::SMALL), good_history(8, Shape::SMALL));
}

#[test]
fn a_file_gives_the_same_verdict_as_the_events_and_names_the_same_operations() {
    let mut events = good_history(3, Shape::SMALL);
    break_history(&mut events, Kind::Reorder, 3).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let mut writer = crate::format::Writer::new(std::fs::File::create(&path).unwrap()).unwrap();
    events.iter().for_each(|event| writer.append(event).unwrap());
    writer.finish().unwrap();
    let (of_file, of_events) =
        (check::check_file(&path, Options::default()).unwrap(), check_events(&events, Options::default()));
    assert_eq!(of_file.violations, of_events.violations);
    assert_eq!(of_file.counts, of_events.counts);
    assert_eq!(of_file.figures, of_events.figures);
    assert_eq!(of_file.liveness, of_events.liveness);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let torn = check::check_file(&path, Options::default()).unwrap();
    assert_eq!(torn.ended, None);
}
