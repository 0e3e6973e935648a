//! What the machine itself can do, taken in the same run: nothing can be faster.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::load::Latencies;
use crate::report::{Measure, Row, Target};
use crate::stream;

/// Repetitions of each floor.
const REPETITIONS: usize = 3;
const SYNCS: u64 = 1_000;
const TRIPS: usize = 5_000;
const COPIES: usize = 32;
const COPY_BYTES: usize = 64 * 1024 * 1024;
/// How much is sent, and by which chunk of a file that fits the page cache.
const SENT_BYTES: usize = 1 << 30;
const FILE_BYTES: usize = 64 << 20;

/// What one durable round trip costs at least, now: the medians of a sync and of a trip on a gRPC stream, in ms.
///
/// Disks shared with others change from minute to minute: a ratio needs a floor taken beside what it divides.
///
/// # Errors
/// When a file or socket fails.
pub fn durable_trip_ms(dir: &Path) -> Fallible<f64> {
    Ok(syncs(dir)?.ms(0.5) + stream::round_trips(TRIPS)?.ms(0.5))
}

/// Takes them; files go below `dir`.
///
/// # Errors
/// When a file or socket fails.
pub fn take(dir: &Path) -> Fallible<Row> {
    let measure = |what, unit| Measure::new(what, unit, Target::Unset);
    let mut measures = vec![
        measure("fdatasync 4 KiB p50", "ms"),
        measure("fdatasync 4 KiB p99", "ms"),
        measure("TCP round trip 1 KiB p50", "ms"),
        measure("TCP round trip 1 KiB p99", "ms"),
        measure("gRPC stream trip 1 KiB p50", "ms"),
        measure("gRPC stream trip 1 KiB p99", "ms"),
        measure("memcpy 64 MiB", "GB/s"),
        measure("sendfile over loopback", "GB/s"),
    ];
    for _ in 0..REPETITIONS {
        let (sync, trip, stream) = (syncs(dir)?, round_trips()?, stream::round_trips(TRIPS)?);
        let latencies = [&sync, &trip, &stream].map(|taken| [taken.ms(0.5), taken.ms(0.99)]);
        let rates = [copy_rate(), sendfile_rate(dir)?];
        let taken = latencies.into_iter().flatten().chain(rates);
        for (measure, sample) in measures.iter_mut().zip(taken) {
            measure.samples.push(sample);
        }
    }
    let setting = format!(
        "{SYNCS} syncs, each of 4 KiB written behind the last into zeroed blocks; {TRIPS} trips on one connection, both ends blocking; as many on one gRPC stream; sendfile of 1 GiB out of the page cache to a reader that drops it"
    );
    Ok(Row { id: "floors", title: "Floors of this machine".to_owned(), setting, measures, notes: Vec::new() })
}

fn syncs(dir: &Path) -> Fallible<Latencies> {
    let file = tempfile::tempfile_in(dir)?;
    let block = [7_u8; 4096];
    // As a log that prepares its file does: only data is synced, no growth.
    zero(&file, SYNCS * 4096)?;
    let mut latencies = Latencies::new()?;
    for n in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&block, n * 4096)?;
        file.sync_data()?;
        latencies.record(began.elapsed());
    }
    Ok(latencies)
}

fn zero(file: &File, bytes: u64) -> Fallible<()> {
    file.write_all_at(&vec![0_u8; usize::try_from(bytes)?], 0)?;
    Ok(file.sync_all()?)
}

fn round_trips() -> Fallible<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut message = [0_u8; 1024];
        // Ends with the connection.
        while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
    });
    let mut latencies = Latencies::new()?;
    let mut message = [1_u8; 1024];
    for trip in 0..TRIPS + TRIPS / 10 {
        let began = Instant::now();
        near.write_all(&message)?;
        near.read_exact(&mut message)?;
        if trip >= TRIPS / 10 {
            latencies.record(began.elapsed());
        }
    }
    drop(near);
    echo.join().map_err(|_| "the echo failed")?;
    Ok(latencies)
}

/// What a broker that hands its files to the kernel could send at most.
fn sendfile_rate(dir: &Path) -> Fallible<f64> {
    let file = tempfile::tempfile_in(dir)?;
    file.write_all_at(&vec![5_u8; FILE_BYTES], 0)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0_u8; 1 << 20];
        let mut left = SENT_BYTES;
        while left > 0 {
            match far.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
        left
    });
    let began = Instant::now();
    let (mut sent, mut at) = (0, 0_u64);
    while sent < SENT_BYTES {
        sent += match rustix::fs::sendfile(&near, &file, Some(&mut at), FILE_BYTES)? {
            0 => {
                at = 0;
                0
            }
            some => some,
        };
    }
    let left = reader.join().map_err(|_| "the reader failed")?;
    match left {
        0 => Ok(SENT_BYTES as f64 / 1e9 / began.elapsed().as_secs_f64()),
        left => Err(format!("{left} bytes did not arrive").into()),
    }
}

fn copy_rate() -> f64 {
    let from = vec![3_u8; COPY_BYTES];
    let mut to = vec![1_u8; COPY_BYTES];
    let mut spent = Duration::ZERO;
    for _ in 0..COPIES {
        let began = Instant::now();
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
        spent += began.elapsed();
    }
    (COPIES * COPY_BYTES) as f64 / 1e9 / spent.as_secs_f64()
}
