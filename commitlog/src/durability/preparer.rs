//! The journal's thread that keeps room ahead of the committer: in the file being written, then in another.
//!
//! Knows nothing of groups, and syncs no segments: those may take long.

use std::io::ErrorKind;
use std::sync::Arc;

use super::error::JournalError;
use super::file::JournalFile;
use super::format::FileHeader;
use super::shared::{Growth, Replay, Room, Shared, Stage, Want};

enum Job {
    Grow(Arc<JournalFile>),
    Create,
}

/// Works until the committer has ended.
pub(super) fn run(shared: &Shared) {
    while let Some(job) = next_job(shared) {
        let result = match job {
            Job::Grow(file) => grow(shared, &file),
            Job::Create => create(shared),
        };
        if let Err(error) = result {
            shared.fail(&error);
        }
    }
}

/// Waits for something to do; `None` when the committer has ended.
fn next_job(shared: &Shared) -> Option<Job> {
    let mut room = shared.room();
    loop {
        if matches!(room.stage, Stage::Emptying | Stage::Stopping) {
            return None;
        }
        if shared.check().is_ok() {
            if let Growth::Wanted { file, .. } = &room.growth {
                return Some(Job::Grow(Arc::clone(file)));
            }
            if room.spares.is_empty() && room.files < files_max(shared, &room) {
                return Some(Job::Create);
            }
        }
        room = shared.wait(room);
    }
}

/// Up to how many files others are made. Before the replay is done none can be freed, and a start may have something to say to
/// the journal first: it must not wait for itself. Those above the maximum go when they are freed.
fn files_max(shared: &Shared, room: &Room) -> usize {
    match (room.spare, room.replay) {
        (Want::No | Want::OnlyFreed, _) => 0,
        (Want::Yes, _) | (Want::Now, Replay::Done) => shared.options.files_max,
        (Want::Now, Replay::Pending) => 2 * shared.options.files_max,
    }
}

/// One step of growth: a sync of the committer's may have to carry it along.
fn grow(shared: &Shared, file: &JournalFile) -> Result<(), JournalError> {
    let next = (file.capacity() + shared.options.growth_bytes).min(shared.options.file_bytes);
    let refused = match file.grow(next) {
        Ok(()) => false,
        Err(error) if error.source.kind() == ErrorKind::StorageFull => true,
        Err(error) => return Err(error),
    };
    shared.change(|room| match &room.growth {
        // The committer may have gone on to another file meanwhile, which is not concerned.
        Growth::Wanted { file: wanted, .. } if !std::ptr::eq(&**wanted, file) => {}
        Growth::Wanted { .. } if refused => room.growth = Growth::Refused,
        Growth::Wanted { bytes, .. } if file.capacity() >= (*bytes).min(shared.options.file_bytes) => {
            room.growth = Growth::Enough;
        }
        Growth::Wanted { .. } | Growth::Enough | Growth::Refused => {}
    });
    Ok(())
}

/// Makes another file; on a full disk the committer has to wait for one that is freed.
fn create(shared: &Shared) -> Result<(), JournalError> {
    let (storage, dir) = (&*shared.storage, &shared.dir);
    let begun = match JournalFile::reserve(storage, dir, shared.file_name(), shared.options.first_bytes) {
        Err(error) if error.source.kind() == ErrorKind::StorageFull => {
            tracing::warn!(%error, "no room for another journal file");
            shared.change(|room| room.spare = Want::OnlyFreed);
            return Ok(());
        }
        begun => begun?,
    };
    shared.next_generation(|generation| {
        // No group has been written to it, so any floor will do.
        let header = FileHeader { salt: shared.salt, generation, floor: 0 };
        let file = begun.finish(storage, dir, header)?;
        shared.change(|room| {
            room.files += 1;
            room.spares.push_back(file);
        });
        Ok(())
    })
}
