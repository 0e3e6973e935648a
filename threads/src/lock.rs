//! Locks whose holder may wait for something else meanwhile, such as a disk.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::simulator::simulator;

/// Locks; what a thread that panicked left behind counts as whole.
#[inline]
pub fn lock<T: Send>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let Some(simulator) = simulator() else { return mutex.lock().unwrap_or_else(PoisonError::into_inner) };
    loop {
        if let Some(guard) = try_lock(mutex) {
            return guard;
        }
        simulator.park(&|| try_lock(mutex).is_some(), None);
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
