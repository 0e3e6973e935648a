//! A broker's log directory on a disk in memory: partition logs, their journal, and every checkpoint beside them.
//!
//! - `process`: a broker as far as its disk sees it.  - `life`: random calls of one.  - `history`: what may be found after it.
//! - `checks`: what must agree with a log's batches.  - `disk`: lets threads interrupt each other.
//! - `trials`: crashes.  - `damage`: harm to the files.

mod checks;
mod damage;
mod disk;
mod history;
mod life;
mod process;
mod trials;

pub use damage::{Harms, Left, damage, every_bit};
pub use trials::{crashes, crashes_at_start, explain, storm};
