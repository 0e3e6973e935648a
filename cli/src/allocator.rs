//! Where this process' memory comes from, and that what is free goes back to the system.
//!
//! The allocator gives pages back only while it is asked for others, and what other threads have freed of a thread's pages only
//! that thread can give back: after a load, a node that has little to do would keep for ever what it has freed by then.
//! Knows nothing of who uses memory.

use std::io;
use std::time::Duration;

use vltava_threads::at_rest;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// Of the library that the allocator wraps.
unsafe extern "C" {
    /// Gives back pages of the calling thread that nobody uses, with `force` also those that were full when it looked last;
    /// then what all threads gave back goes to the system, without `force` only if it was a second ago.
    fn mi_collect(force: bool);
}

/// How often pages are looked for that were given back to the allocator, and not yet to the system.
const EVERY: Duration = Duration::from_secs(5);

/// Has memory that is free go back to the system for as long as the process runs, whoever is idle meanwhile.
///
/// # Errors
/// When there is no room for another thread.
pub fn give_back_free_pages() -> io::Result<()> {
    at_rest(give_back);
    // A thread of its own, since all others may sleep for long. It ends with the process.
    let look = || {
        loop {
            std::thread::sleep(EVERY);
            give_back();
        }
    };
    std::thread::Builder::new().name("free-pages".to_owned()).spawn(look).map(drop)
}

fn give_back() {
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(true) };
}
