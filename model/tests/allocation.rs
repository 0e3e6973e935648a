//! However much a hostile batch claims to hold, what is reserved for it stays in proportion to its bytes.
//!
//! Counts what goes through Rust's allocator; it cannot see what the C library of Zstandard reserves.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use vltava_model::batch::{
    Batch, BatchBuilder, Compression, HEADER_BYTES, MAX_DECOMPRESSED_BYTES, MAX_RECORD_HEADERS, RecordHeader,
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How much more was reserved at the worst moment of `work` than before it.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

fn seal(compression: Compression, record_count: u32, body: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, None, None, &[]).expect("an empty record is small");
    let mut bytes = builder.build()[..HEADER_BYTES].to_vec();
    bytes[22] = compression.number();
    bytes[23..27].copy_from_slice(&(record_count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&record_count.to_be_bytes());
    bytes.extend_from_slice(body);
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// All that a node does with a batch of a client's.
fn handle(bytes: Bytes, limit: usize) {
    for batch in Batch::split(bytes, 1 << 20).into_iter().flatten() {
        let _ = batch.validate_records_within(limit);
        batch.records_within(limit).into_iter().flatten().for_each(drop);
    }
}

fn stays_in_proportion(what: &str, bytes: Bytes, limit: usize) {
    let allowed = 2 * bytes.len() + (1 << 20);
    let peak = peak_of(|| handle(bytes, limit));
    assert!(peak <= allowed, "{what}: {peak} bytes were reserved, {allowed} are allowed");
}

/// The front of an LZ4 frame whose blocks may have 4 MiB.
const FRAME: &[u8] = &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0];

// One test: others at the same time would be counted too.
#[test]
fn claims_reserve_nothing() {
    let zeros = vec![0; 64 << 20];
    let claims = [
        ("2^31 records", seal(Compression::None, i32::MAX as u32, &[0; 100])),
        ("2^31 records, compressed", seal(Compression::Snappy, i32::MAX as u32, &[0])),
        // Length, attributes, deltas, null key and value, then a count.
        ("2^31 headers", seal(Compression::None, 1, &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f])),
        ("a key of 2 GiB", seal(Compression::None, 1, &[20, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0])),
        ("a raw snappy block of 4 GiB", seal(Compression::Snappy, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a raw snappy block of 32 MiB", seal(Compression::Snappy, 1, &[0x80, 0x80, 0x80, 0x10])),
        ("an LZ4 block of 4 MiB", seal(Compression::Lz4, 1, &[FRAME, &[0, 0, 0x3f, 0, 1, 2, 3]].concat())),
        (
            "an LZ4 block in room for 4 MiB",
            seal(Compression::Lz4, 1, &[FRAME, &[3, 0, 0, 0, 1, 2, 3]].concat()),
        ),
    ];
    for (what, bytes) in claims {
        stays_in_proportion(what, bytes, MAX_DECOMPRESSED_BYTES);
    }
    for compression in Compression::ALL {
        let mut bomb = BatchBuilder::new(compression);
        bomb.append(0, None, Some(&zeros), &[]).unwrap();
        stays_in_proportion("64 MiB of zeros", bomb.build(), 256 << 10);
    }

    let mut small = BatchBuilder::new(Compression::None);
    small.append(0, None, None, &[]).unwrap();
    let many = Bytes::from(small.build().repeat(50_000));
    let allowed = 2 * many.len() + (1 << 20);
    let peak = peak_of(|| drop(Batch::split(many, 1 << 20).unwrap()));
    assert!(peak <= allowed, "50,000 tiny batches: {peak} bytes were reserved, {allowed} are allowed");

    let mut headers = BatchBuilder::new(Compression::None);
    headers.append(0, None, None, &vec![RecordHeader::new("", None); MAX_RECORD_HEADERS]).unwrap();
    stays_in_proportion("10,000 headers", headers.build(), MAX_DECOMPRESSED_BYTES);
}
