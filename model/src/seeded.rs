//! Known bugs that can be put back in, one at a time, to see whether the tests find them: `docs/reliability.md`.
//!
//! Without the feature `seeded-bugs` every site is `if false` and leaves no trace in the binary. With it, one build holds all
//! bugs, and whoever starts a process plants one by its name, or none. Reads no environment itself.

mod bugs;

pub use bugs::{Harm, SeededBug};

/// The environment variable that names the bug to plant; read by those who start a process or a test.
pub const VARIABLE: &str = "VLTAVA_BUG";

/// Whether this build can hold bugs at all.
pub const AVAILABLE: bool = cfg!(feature = "seeded-bugs");

/// Whether a bug is planted in this process.
#[cfg(not(feature = "seeded-bugs"))]
#[inline(always)]
pub const fn seeded(_bug: SeededBug) -> bool {
    false
}

/// Whether a bug is planted in this process.
#[cfg(feature = "seeded-bugs")]
#[inline]
pub fn seeded(bug: SeededBug) -> bool {
    planted::PLANTED.load(std::sync::atomic::Ordering::Relaxed) == planted::number(bug)
}

/// Why a bug cannot be planted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlantError {
    /// No bug is called so.
    #[error("no seeded bug is called {0:?}")]
    Unknown(String),
    /// This is an ordinary build.
    #[error("built without the feature seeded-bugs")]
    NotBuilt,
}

/// Plants the bug of that name for the rest of the process, before anything else runs; nothing without a name.
///
/// # Errors
/// When there is no such bug, or this build holds none.
pub fn plant(name: Option<&str>) -> Result<(), PlantError> {
    let Some(name) = name else { return Ok(()) };
    let bug = SeededBug::ALL.iter().copied().find(|bug| bug.name() == name);
    planted::plant(bug.ok_or_else(|| PlantError::Unknown(name.to_owned()))?)
}

#[cfg(not(feature = "seeded-bugs"))]
mod planted {
    use super::{PlantError, SeededBug};

    pub(super) fn plant(_bug: SeededBug) -> Result<(), PlantError> {
        Err(PlantError::NotBuilt)
    }
}

#[cfg(feature = "seeded-bugs")]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{PlantError, SeededBug};

    /// 0 is none.
    pub(super) static PLANTED: AtomicU8 = AtomicU8::new(0);

    pub(super) const fn number(bug: SeededBug) -> u8 {
        bug as u8 + 1
    }

    pub(super) fn plant(bug: SeededBug) -> Result<(), PlantError> {
        PLANTED.store(number(bug), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_unknown_ones_are_refused() {
        let names: std::collections::BTreeSet<_> = SeededBug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), SeededBug::ALL.len());
        assert!(SeededBug::ALL.len() < 255, "numbers of bugs must fit into a byte");
        assert_eq!(plant(Some("Nonsense")), Err(PlantError::Unknown("Nonsense".into())));
        assert_eq!(plant(None), Ok(()));
    }

    #[test]
    #[cfg(not(feature = "seeded-bugs"))]
    fn an_ordinary_build_holds_no_bug() {
        assert_eq!(plant(Some(SeededBug::ALL[0].name())), Err(PlantError::NotBuilt));
        assert!(SeededBug::ALL.iter().all(|bug| !seeded(*bug)));
    }
}
