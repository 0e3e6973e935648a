//! Histories of what clients saw, and the payloads of records in them.
//!
//! Input: a history's file, or a record's value. Odd first byte after the magic of neither: the file's frame is made of
//! the rest as its body.

use vltava_history::event::{Event, Seen};
use vltava_history::format::{Reader, Writer};
use vltava_history::generate::{Shape, good_history};
use vltava_history::{Checker, Options, Payload, report};

/// The checker's work grows with the records that a history claims: more is left out here.
const RECORDS_MAX: u64 = 20_000;

pub(super) fn run(input: &[u8]) {
    if let Ok(payload) = Payload::decode(input) {
        assert_eq!(payload.encode(input.len()).len(), input.len());
    }
    read(input);
    read(&framed(input));
}

/// The bytes as the body of one frame, with its checksum.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("an input is small").to_le_bytes();
    [&b"VLTHIST1"[..], &length, &crc32c::crc32c(body).to_le_bytes(), body].concat()
}

fn read(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let events: Vec<Event> = reader.by_ref().map_while(Result::ok).collect();
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    events.iter().for_each(|event| writer.append(event).expect("memory can be written"));
    let written = writer.finish().expect("memory can be written");
    let back = Reader::new(&written[..]).expect("it begins as it should").collect::<Result<Vec<_>, _>>();
    assert_eq!(back.expect("what was written can be read"), events);
    if events.iter().map(records).fold(0, u64::saturating_add) > RECORDS_MAX {
        return;
    }
    let mut checker = Checker::new(Options::default());
    events.iter().for_each(|event| checker.observe(event));
    let verdict = checker.finish();
    let _ = (report::summary(&verdict), report::html(&verdict));
}

fn records(event: &Event) -> u64 {
    match event {
        Event::Produce(produce) => u64::from(produce.count),
        Event::Poll(poll) => {
            let counts = poll.seen.iter().map(|seen| match seen {
                Seen::Records { count, .. } => u64::from(*count),
                Seen::Alien { .. } => 1,
            });
            counts.sum()
        }
        _ => 0,
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let shape = Shape { length: std::time::Duration::from_millis(900), ..Shape::SMALL };
    let mut seeds = Vec::new();
    for seed in 0..3 {
        let mut writer = Writer::new(Vec::new()).expect("memory can be written");
        let events = good_history(seed, shape);
        events.iter().for_each(|event| writer.append(event).expect("memory can be written"));
        let file = writer.finish().expect("memory can be written");
        // The body of its only frame, and the whole.
        seeds.push(file[16..].to_vec());
        seeds.push(file);
    }
    seeds
}
