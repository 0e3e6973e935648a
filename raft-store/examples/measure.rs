//! Prints what a durable append costs on either log, beside one bare write and sync, and how long a start takes.
//!
//! `cargo run --release -p vltava-raft-store --example measure -- [DIRECTORY] [APPENDS] [ENTRIES]`: on a disk of interest,
//! by default below `/var/tmp`, 5,000 appends and a start with 100,000 entries.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use vltava_raft_store::{LogEntry, MetaLog, Position, SledLog, WalLog, WalOptions};
use vltava_storage::RealStorage;

const CACHE: u64 = 64 << 20;

fn entry(index: u64, length: usize) -> LogEntry {
    LogEntry { position: Position { term: 1, index }, bytes: vec![index as u8; length].into() }
}

/// The processor time of this process so far.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which ends with the last bracket, user and system time are the 12th and 13th word, in 10 ms.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs `act` so often, and prints how long it took.
fn time(name: &str, rounds: u64, act: &mut dyn FnMut(u64)) {
    let mut times: Vec<Duration> = Vec::new();
    let (start, used) = (Instant::now(), processor());
    for round in 0..rounds {
        let start = Instant::now();
        act(round);
        times.push(start.elapsed());
    }
    let (all, used) = (start.elapsed(), processor() - used);
    times.sort();
    let at = |share: usize| times[times.len() * share / 1000].as_secs_f64() * 1e3;
    println!(
        "{name:<40} p50 {:>7.3} ms, p90 {:>7.3}, p99 {:>7.3}, p99.9 {:>8.3}; {:>6.0} a second, {:>5.1} us of processor each",
        at(500),
        at(900),
        at(990),
        at(999),
        rounds as f64 / all.as_secs_f64(),
        used.as_secs_f64() * 1e6 / rounds as f64,
    );
}

fn size(directory: &Path) -> u64 {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    files
        .flatten()
        .map(|file| match file.metadata() {
            Ok(meta) if meta.is_dir() => size(&file.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Measures one log, which `open` opens.
fn measure<L: MetaLog>(name: &str, directory: &Path, appends: u64, entries: u64, open: &dyn Fn(&Path) -> L) {
    let place = directory.join(format!("{name}-latency"));
    let mut log = open(&place);
    let mut next = 0;
    for (count, length) in [(1, 200), (20, 200), (1, 20_000), (1, 200_000)] {
        let rounds = if length > 1000 { appends / 5 } else { appends };
        time(&format!("{name}: {count} x {length} bytes"), rounds, &mut |_| {
            let group: Vec<_> = (next..next + count).map(|index| entry(index, length)).collect();
            next += count;
            log.append(&group).expect("the disk takes it");
            if next % 5_000 < count && next > 10_000 {
                log.purge_up_to(Position { term: 1, index: next - 5_000 }).expect("the disk takes it");
            }
        });
    }
    drop(log);
    let place = directory.join(format!("{name}-start"));
    let mut log = open(&place);
    let indexes: Vec<u64> = (0..entries).collect();
    for group in indexes.chunks(50) {
        let group: Vec<_> = group.iter().map(|index| entry(*index, 200)).collect();
        log.append(&group).expect("the disk takes it");
    }
    drop(log);
    let (start, used) = (Instant::now(), processor());
    let log = open(&place);
    let (opened, opened_used) = (start.elapsed(), processor() - used);
    let start = Instant::now();
    let mut read = 0;
    while read < entries {
        let found = log.read(read..entries, 1 << 20).expect("the log reads");
        read += found.len() as u64;
    }
    println!(
        "{name}: start with {entries} entries {opened:?} ({opened_used:?} of processor), reading them all {:?}, {} MiB on disk",
        start.elapsed(),
        size(&place) >> 20
    );
}

fn main() {
    let mut words = std::env::args().skip(1);
    let parent = words.next().unwrap_or_else(|| "/var/tmp".into());
    let mut number = |usual| words.next().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (appends, entries) = (number(5_000), number(100_000));
    let directory = tempfile::tempdir_in(parent).expect("the directory can be written");
    let file = fs::File::create(directory.path().join("bare")).expect("a file can be made");
    file.write_all_at(&vec![0; 1 << 20], 0).and_then(|()| file.sync_all()).expect("the disk takes it");
    time("bare write and fdatasync, 512 bytes", appends, &mut |round| {
        let written = file.write_all_at(&[round as u8; 512], round * 512 % (1 << 20));
        written.and_then(|()| file.sync_data()).expect("the disk takes it");
    });
    measure("wal", directory.path(), appends, entries, &|place| {
        WalLog::open(RealStorage::shared(), place, WalOptions::new(7)).expect("the log opens")
    });
    measure("sled", directory.path(), appends, entries, &|place| {
        SledLog::open(place, CACHE).expect("the log opens")
    });
}
