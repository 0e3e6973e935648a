//! The symbols through which the standard library and all crates reach the system's randomness and clocks, defined anew:
//! once taken over, both are functions of the seed and of simulated time. Before that they are the system's own.
//!
//! The only place beside `baton.rs` that needs `unsafe`: it speaks C. What a host or a task is, is not known here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

static TAKEN: AtomicBool = AtomicBool::new(false);
static STATE: AtomicU64 = AtomicU64::new(0);

/// From here on randomness comes from `seed` and time from [`clock`]. Exactly one thread may run at a time.
pub fn take_over(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
    TAKEN.store(true, Ordering::Release);
}

/// How much was drawn so far: equal runs draw equally much.
pub fn state() -> u64 {
    STATE.load(Ordering::Relaxed)
}

/// Real time since some moment, for figures about the simulator itself.
pub fn real_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which `time` is.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The processor time of all children that have ended and were waited for.
pub fn children_cpu() -> Duration {
    // SAFETY: all zeroes is a `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage`, which `usage` is.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Keeps this process on the processor that it is on: threads that hand on a baton are quicker on one. Where that can not be
/// had, it runs all the same.
pub fn stay_on_this_processor() {
    // SAFETY: takes no pointer.
    let processor = unsafe { libc::sched_getcpu() };
    let Ok(processor) = usize::try_from(processor) else { return };
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if processor >= 8 * size_of::<libc::cpu_set_t>() {
        return;
    }
    // SAFETY: the number lies within the set, as was just checked.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the kernel reads one set, of the size that is told.
    let _: i32 = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Has the C library keep the memory that is given back to it, in one place for all threads: a run is short, and only one of
/// its threads runs at a time.
pub fn keep_memory() {
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        (libc::M_MMAP_THRESHOLD, 1 << 30),
        (libc::M_TOP_PAD, 16 << 20),
    ] {
        // SAFETY: takes no pointer. Where it is refused, memory comes and goes as before.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// The next 64 bits (splitmix64).
fn next() -> u64 {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Replaces libc's.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if !TAKEN.load(Ordering::Acquire) {
        // SAFETY: as for this function.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    }
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for `length` bytes at `buffer`, and nobody else uses them meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

/// Replaces libc's.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut u8, length: usize) -> i32 {
    // SAFETY: as for this function.
    if unsafe { getrandom(buffer, length, 0) } == length as isize { 0 } else { -1 }
}

/// Replaces libc's.
///
/// # Safety
/// `time` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    let cpu = matches!(clock, libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID);
    if cpu || !TAKEN.load(Ordering::Acquire) {
        // SAFETY: as for this function.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 };
    }
    let (tv_sec, tv_nsec) = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => clock::wall(),
        _ => clock::monotonic(),
    };
    // SAFETY: the caller vouches for one `timespec` at `time`.
    unsafe { time.write(libc::timespec { tv_sec, tv_nsec }) };
    0
}
