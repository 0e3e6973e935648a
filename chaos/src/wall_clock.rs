//! A library that is loaded before the C library into a node's process and shifts its wall clock by what a file says, which
//! the chaos tool changes while the process runs. Monotonic clocks are left alone, as a step of the clock leaves them.
//!
//! Knows nothing but the name of the variable that names the file.

use std::fs::File;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::time::{ClockId, Timespec, clock_gettime as true_time};

/// Names the file: eight bytes, a number of nanoseconds in the machine's order.
const FILE: &str = "VLTAVA_CHAOS_CLOCK";
const NANOS: i64 = 1_000_000_000;

/// Where the file is mapped; null before and without it.
static SHIFT: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

/// Runs when the library is loaded, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

extern "C" fn load() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let Ok(file) = File::open(path) else { return };
    // SAFETY: a new mapping at an address of the kernel's choice; it is never unmapped. The file has eight bytes as long as the
    // run lasts, and they are only read atomically.
    let mapped =
        unsafe { mmap(ptr::null_mut(), size_of::<AtomicI64>(), ProtFlags::READ, MapFlags::SHARED, &file, 0) };
    if let Ok(mapped) = mapped {
        SHIFT.store(mapped.cast(), Ordering::Release);
    }
}

fn shift() -> i64 {
    let shift = SHIFT.load(Ordering::Acquire);
    // SAFETY: null, or the start of a mapping of at least eight bytes that is aligned to a page and never unmapped.
    unsafe { shift.as_ref() }.map_or(0, |shift| shift.load(Ordering::Relaxed))
}

fn clock(id: i32) -> Option<ClockId> {
    Some(match id {
        0 => ClockId::Realtime,
        1 => ClockId::Monotonic,
        2 => ClockId::ProcessCPUTime,
        3 => ClockId::ThreadCPUTime,
        5 => ClockId::RealtimeCoarse,
        6 => ClockId::MonotonicCoarse,
        7 => ClockId::Boottime,
        _ => return None,
    })
}

/// Stands in for the C library's: the time of a clock, the wall clock shifted.
///
/// # Safety
/// As there: `time` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: i32, time: *mut Timespec) -> i32 {
    let Some(clock) = clock(id) else { return -1 };
    let mut now = true_time(clock);
    if matches!(clock, ClockId::Realtime | ClockId::RealtimeCoarse) {
        let shifted = now.tv_nsec + shift() % NANOS;
        now.tv_sec += shift() / NANOS + shifted.div_euclid(NANOS);
        now.tv_nsec = shifted.rem_euclid(NANOS);
    }
    // SAFETY: the caller's promise.
    if let Some(time) = unsafe { time.as_mut() } {
        *time = now;
    }
    0
}
