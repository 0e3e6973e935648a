//! Replays what fuzzing found: every committed input, every seed, and a few thousand changes of them.
//!
//! `cargo xtask fuzz` looks further. A failure names the input: a file, or a seed and the number of its change.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use vltava_fuzz::allocations::Counting;
use vltava_fuzz::{TARGETS, Target, mutate, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many changed inputs each target is given; `VLTAVA_FUZZ_CHANGES` says otherwise.
const CHANGES: u64 = 500;

fn changes() -> u64 {
    std::env::var("VLTAVA_FUZZ_CHANGES")
        .map_or(CHANGES, |text| text.parse().expect("VLTAVA_FUZZ_CHANGES is a number"))
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    let committed = files
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("it can be read")));
    let seeds = (target.seeds)().into_iter().enumerate().map(|(at, seed)| (format!("seed {at}"), seed));
    seeds.chain(committed).collect()
}

fn must_return(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(target, input))).is_err() {
        panic!("{}: {what} fails, {} bytes: {input:?}", target.name, input.len());
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is one");
    let inputs = corpus(target);
    for (what, input) in &inputs {
        must_return(target, what, input);
    }
    for change in 0..changes() {
        let pick = |salt: u64| &inputs[(change.wrapping_mul(2_654_435_761) ^ salt) as usize % inputs.len()];
        let (one, other) = (pick(0), pick(0x55));
        let changed = mutate::mutated(&one.1, &other.1, change);
        must_return(target, &format!("change {change} of {}", one.0), &changed);
    }
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

#[cfg(feature = "cluster")]
replays!(batch, checkpoint, config, history, journal, log, messages, metadata, raft, wal);
#[cfg(not(feature = "cluster"))]
replays!(batch, checkpoint, history, journal, log);

#[test]
fn every_target_is_replayed() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
}

#[test]
fn an_allocation_on_a_lengths_word_is_noticed() {
    let trusting = Target {
        name: "trusting",
        run: |input| drop(Vec::<u8>::with_capacity(usize::from(input[0]) << 20)),
        seeds: Vec::new,
        given: 0,
    };
    run(&trusting, &[0]);
    assert!(catch_unwind(|| run(&trusting, &[9])).is_err());
}

/// Invariant: what a decoder allocates is in proportion to what it was sent. Records and headers of two bytes each were not.
#[cfg(feature = "cluster")]
#[test]
fn small_records_take_no_more_memory_than_their_bytes_allow() {
    use bytes::Bytes;
    use prost::Message;
    use vltava_broker::api::records;
    use vltava_fuzz::allocations;
    use vltava_proto::v1::{PlainRecords, ProduceRequest, produce_request::Payload};

    const COUNT: usize = 2 << 20;
    let empty_records = b"\x0a\x00".repeat(COUNT);
    let empty_headers = {
        let mut list = vec![0x0a];
        prost::encoding::encode_varint(2 * COUNT as u64, &mut list);
        list.extend(b"\x1a\x00".repeat(COUNT));
        list
    };
    for list in [empty_records, empty_headers] {
        let mut frame = vec![0x42];
        prost::encoding::encode_varint(list.len() as u64, &mut frame);
        frame.extend(list);
        let frame = Bytes::from(frame);
        let allowed = 2 * frame.len() + (1 << 20);
        allocations::reset();
        let request = ProduceRequest::decode(frame.clone()).expect("it is a message");
        assert!(allocations::most_held() <= allowed, "decoding took {}", allocations::most_held());
        assert!(allocations::most_held() >= COUNT, "nobody counts");
        let Some(Payload::Records(plain)) = request.payload else { panic!("it carries records") };
        allocations::reset();
        assert!(records::encode(&plain, 0).is_err());
        assert!(allocations::most_held() <= allowed, "a batch took {}", allocations::most_held());
    }
    // Those that come in usual numbers make a batch.
    let few = PlainRecords::decode(&b"\x0a\x00".repeat(50_000)[..]).expect("it is a message");
    assert!(records::encode(&few, 0).is_ok());
}

#[test]
fn the_corpora_are_small() {
    let size = |target: &Target| corpus(target).iter().map(|(_, input)| input.len()).sum::<usize>();
    let all: usize = TARGETS.iter().map(size).sum();
    assert!(all < 2 << 20, "{all} bytes");
}
