//! Measures what a thread allocates: the largest piece, which a decoder may reserve because some length in its input says so,
//! and the most that it holds at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    /// Since the last reset; below 0 when more was freed than allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST_HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with an eye on it. Make it the `#[global_allocator]` of a process that runs targets.
pub struct Counting;

fn note(bytes: usize) {
    // A thread that ends has no cell any more; nor has it a target to run.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

fn hold(more: usize, less: usize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + more.cast_signed() - less.cast_signed());
        let _ = MOST_HELD.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        hold(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        hold(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        hold(size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Forgets what this thread has allocated.
pub fn reset() {
    LARGEST.set(0);
    HELD.set(0);
    MOST_HELD.set(0);
}

/// The most that this thread has held at a time of what it allocated since [`reset`], in bytes; 0 where nobody counts.
pub fn most_held() -> usize {
    MOST_HELD.get().max(0).cast_unsigned()
}

/// The largest allocation of this thread since [`reset`], in bytes; 0 where nobody counts.
pub fn largest() -> usize {
    LARGEST.get()
}
