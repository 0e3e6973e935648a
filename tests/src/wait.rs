//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
///
/// # Errors
/// What was waited for, and the last reason why not, when the time is over.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(reason) if Instant::now() > deadline => {
                return Err(format!("waited {limit:?} in vain for {what}: {reason}"));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
