//! One scenario at a time, and ports that nobody else takes.
//!
//! Scenarios measure time-outs of clusters of processes: several at once on a small machine would only measure each other.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static MINE: RefCell<Weak<Turn>> = const { RefCell::new(Weak::new()) };
}

/// This thread's turn: no other thread has one as long as it lives.
pub struct Turn {
    _guard: MutexGuard<'static, ()>,
}

/// Waits for the turn of this thread; shared by all that the thread does.
pub fn take() -> Rc<Turn> {
    MINE.with(|mine| {
        if let Some(turn) = mine.borrow().upgrade() {
            return turn;
        }
        // A scenario that failed leaves nothing behind that the next one could trip over.
        let turn = Rc::new(Turn { _guard: TURN.lock().unwrap_or_else(PoisonError::into_inner) });
        *mine.borrow_mut() = Rc::downgrade(&turn);
        turn
    })
}

/// Below the ports that the system gives to outgoing connections, so that none of them takes a stopped node's port.
const FIRST_PORT: u32 = 12_000;
const PORTS: u32 = 18_000;

/// A port that is free now and that this process gives to nobody else.
///
/// # Panics
/// When none is free.
pub fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        // Processes that run at once begin apart.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(211));
        let port = u16::try_from(FIRST_PORT + step % PORTS).expect("the range lies below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
