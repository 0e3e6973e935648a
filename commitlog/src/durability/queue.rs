//! How much may wait for the journal: bounded in number and in bytes, and refused beyond.
//!
//! Knows nothing of what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The room in the queue.
#[derive(Debug)]
pub(super) struct Admission {
    submissions: AtomicUsize,
    bytes: AtomicU64,
    submissions_max: usize,
    bytes_max: u64,
}

/// A place in the journal's queue, given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Admission {
    pub fn new(submissions_max: usize, bytes_max: u64) -> Self {
        Self { submissions: AtomicUsize::new(0), bytes: AtomicU64::new(0), submissions_max, bytes_max }
    }

    /// Takes a place for `bytes`; `None` when there is none. What is larger than the whole queue gets in alone.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let before = self.submissions.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        // From here on, dropping it gives both back.
        let reservation = Reservation { admission: Arc::clone(self), bytes };
        let fits = before == 0 || before < self.submissions_max && bytes_before + bytes <= self.bytes_max;
        fits.then_some(reservation)
    }
}

impl Reservation {
    /// The bytes that it is for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.admission.submissions.fetch_sub(1, Ordering::AcqRel);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
