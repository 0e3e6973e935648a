//! The format: round trips, torn ends, damage.

use vltava_model::{NodeId, Offset, PartitionIndex, TopicId};

use super::*;
use crate::event::*;
use crate::payload::Payload;

/// One of everything.
fn events() -> Vec<Event> {
    let payload = Payload {
        run: RunId::new(u64::MAX),
        producer: ClientRef::new(7),
        seq: u64::MAX,
        topic: TopicId::new(u128::MAX),
        partition: PartitionIndex::new(u32::MAX),
    };
    let alien = |alien| Seen::Alien { offset: Offset::new(900), alien: Box::new(alien) };
    let seen = vec![
        Seen::Records { offset: Offset::new(5), producer: ClientRef::new(0), seq: 300, count: 70_000 },
        alien(Alien::Corrupt("checksum ä".to_owned())),
        alien(Alien::Misplaced(payload)),
        alien(Alien::Foreign(payload)),
    ];
    let poll = Poll {
        consumer: ClientRef::new(1),
        partition: PartitionRef::new(0),
        reading: Reading::Final,
        invoked: At::nanos(3),
        completed: At::nanos(2_000),
        high_watermark: Some(Offset::new(u64::MAX)),
        log_start: None,
        seen,
    };
    let produce = |outcome| Produce {
        producer: ClientRef::new(0),
        partition: PartitionRef::new(0),
        seq: 1,
        count: 3,
        acks: Acks::All,
        invoked: At::nanos(9_000_000_000),
        completed: At::nanos(8_999_999_999),
        outcome,
    };
    let admin = |action| Admin {
        client: ClientRef::new(2),
        action,
        invoked: At::nanos(1),
        completed: At::nanos(1),
        outcome: Outcome::Unknown("timed out".to_owned()),
    };
    let mut all = vec![
        Event::Begin(Begin {
            run: RunId::new(1),
            seed: 2,
            title: "a title".to_owned(),
            version: "0.1".to_owned(),
            started_unix_ms: 4,
        }),
        Event::Partition(Partition {
            partition: PartitionRef::new(0),
            topic: TopicId::new(5),
            name: "orders".to_owned(),
            index: PartitionIndex::new(1),
            retention: Retention::Recent,
        }),
        Event::Poll(poll.clone()),
        Event::Poll(Poll { seen: Vec::new(), reading: Reading::Along, ..poll }),
        Event::Produce(produce(Outcome::Ok(Some(Offset::new(8))))),
        Event::Produce(produce(Outcome::Ok(None))),
        Event::Produce(produce(Outcome::Failed("refused".to_owned()))),
        Event::Produce(produce(Outcome::Unknown(String::new()))),
        Event::Assign(Assign {
            consumer: ClientRef::new(1),
            partition: PartitionRef::new(0),
            from: Some(Offset::ZERO),
            at: At::nanos(u64::MAX),
        }),
        Event::Admin(admin(Action::CreateTopic { name: "orders".to_owned(), partitions: 3 })),
        Event::Admin(admin(Action::DeleteTopic { topic: TopicId::new(5) })),
        Event::Admin(admin(Action::DeleteRecords {
            partition: PartitionRef::new(0),
            before: Offset::new(1),
        })),
        Event::Admin(admin(Action::Other("alter".to_owned()))),
        Event::FaultBegins(FaultBegins {
            fault: FaultRef::new(0),
            kind: "kill".to_owned(),
            nodes: vec![NodeId::new(3), NodeId::new(1)],
            detail: String::new(),
            leads: vec![PartitionRef::new(0)],
            at: At::nanos(0),
        }),
        Event::FaultEnds(FaultEnds { fault: FaultRef::new(0), at: At::nanos(1 << 63) }),
    ];
    for (at, role) in [Role::IdempotentProducer, Role::PlainProducer, Role::Consumer, Role::Administrator]
        .into_iter()
        .enumerate()
    {
        let client = ClientRef::new(u32::try_from(at).unwrap());
        all.push(Event::Client(Client { client, name: format!("client {at}"), role }));
    }
    all.push(Event::End { at: At::nanos(5) });
    all
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    events.iter().for_each(|event| writer.append(event).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> (Vec<Event>, Option<Ended>, Option<ReadError>) {
    let mut reader = Reader::new(bytes).unwrap();
    let mut events = Vec::new();
    let mut failed = None;
    for event in reader.by_ref() {
        match event {
            Ok(event) => events.push(event),
            Err(error) => failed = Some(error),
        }
    }
    assert!(reader.next().is_none());
    (events, reader.ended(), failed)
}

#[test]
fn every_event_comes_back() {
    let events = events();
    let (back, ended, failed) = read(&written(&events));
    assert_eq!(back, events);
    assert!(failed.is_none());
    assert_eq!(ended, Some(Ended::Whole));
}

#[test]
fn a_long_poll_comes_back_in_parts_and_many_events_in_many_frames() {
    let Event::Poll(mut poll) = events().swap_remove(2) else { unreachable!("a poll is third") };
    poll.seen = (0..5000u64)
        .map(|at| Seen::Alien { offset: Offset::new(at), alien: Box::new(Alien::Corrupt("x".repeat(500))) })
        .collect();
    let (back, ended, failed) = read(&written(&vec![Event::Poll(poll.clone()); 3]));
    assert!(failed.is_none());
    assert_eq!(ended, Some(Ended::Whole));
    assert_eq!(back.len(), 3 * 5);
    let seen: Vec<Seen> = back
        .into_iter()
        .take(5)
        .flat_map(|event| if let Event::Poll(poll) = event { poll.seen } else { Vec::new() })
        .collect();
    let cut = |at: usize| match &seen[at] {
        Seen::Alien { offset, alien } => (offset.get(), format!("{alien:?}").len()),
        Seen::Records { .. } => unreachable!("all are aliens"),
    };
    assert_eq!(seen.len(), 5000);
    assert_eq!(cut(4999), (4999, "Corrupt(\"\")".len() + TEXT_MAX));
}

#[test]
fn a_torn_end_costs_the_last_frame_only() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let events = events();
    writer.append(&events[0]).unwrap();
    writer.flush().unwrap();
    let first = written(&events[..1]).len();
    for event in &events[1..] {
        writer.append(event).unwrap();
    }
    let whole = writer.finish().unwrap();
    for length in first + 1..whole.len() {
        let (back, ended, failed) = read(&whole[..length]);
        assert_eq!((back.len(), ended, failed.is_none()), (1, Some(Ended::Torn), true), "cut at {length}");
    }
    let (back, ended, _) = read(&whole[..first]);
    assert_eq!((back.len(), ended), (1, Some(Ended::Whole)));
    // A power cut leaves zeros where the file had grown already.
    for zeros in [1, 8, 100, 2_000_000] {
        let (back, ended, failed) = read(&[&whole[..first], &vec![0; zeros]].concat());
        assert_eq!((back.len(), ended, failed.is_none()), (1, Some(Ended::Torn), true), "{zeros} zeros");
    }
}

#[test]
fn damage_in_the_midst_is_an_error() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for event in events() {
        writer.append(&event).unwrap();
        writer.flush().unwrap();
    }
    let whole = writer.finish().unwrap();
    let mut damaged = whole.clone();
    damaged[MAGIC.len() + 10] ^= 1;
    let (back, ended, failed) = read(&damaged);
    assert!(back.is_empty() && ended.is_none());
    assert!(matches!(failed, Some(ReadError::Damaged { at: 8, .. })), "{failed:?}");
    assert!(matches!(Reader::new(&b"VLTHIST0"[..]), Err(ReadError::NotAHistory)));
    assert!(matches!(Reader::new(&b"VLT"[..]), Err(ReadError::NotAHistory)));
}
