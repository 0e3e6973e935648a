//! The journal's second thread: gives the first one room, and syncs at leisure what it leaves behind.
//!
//! It does one small thing at a time, the most urgent first: room in the current file, an empty file, files that
//! someone waits for, then the segments of full journal files, oldest first. Knows nothing of groups.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};

use super::error::{JournalError, failed};
use super::file::JournalFile;
use super::format::FileHeader;
use super::shared::{Growth, Replay, Room, SealedFile, Shared, Stage, SyncRequest, Want};
use crate::storage::StorageFile;

enum Job {
    Grow(Arc<JournalFile>),
    Create(FileHeader),
    Sync(VecDeque<SyncRequest>),
    Release(Arc<SealedFile>),
}

/// Works until the journal ends.
pub(super) fn run(shared: &Shared) {
    while let Some(job) = next_job(shared) {
        let result = match job {
            Job::Grow(file) => grow(shared, &file),
            Job::Create(header) => create(shared, header),
            Job::Sync(requests) => sync(shared, requests),
            Job::Release(sealed) => release_step(shared, &sealed),
        };
        if let Err(error) = result {
            shared.fail(&error);
        }
    }
}

/// Waits for something to do; `None` when the journal ends.
fn next_job(shared: &Shared) -> Option<Job> {
    let mut room = shared.room();
    loop {
        if !room.syncs.is_empty() {
            // Also after a failure: they are told of it.
            return Some(Job::Sync(std::mem::take(&mut room.syncs)));
        }
        if shared.check().is_ok() {
            if let Some(job) = useful_job(shared, &room) {
                return Some(job);
            }
        } else if room.stage == Stage::Emptying {
            return None;
        }
        let emptied = room.sealed.is_empty() || room.replay == Replay::Pending;
        if room.stage == Stage::Stopping || room.stage == Stage::Emptying && emptied {
            return None;
        }
        room = shared.wait(room);
    }
}

fn useful_job(shared: &Shared, room: &Room) -> Option<Job> {
    let committing = matches!(room.stage, Stage::Running | Stage::Closing);
    if room.stage == Stage::Stopping {
        return None;
    }
    if let (true, Growth::Wanted { file, .. }) = (committing, &room.growth) {
        return Some(Job::Grow(Arc::clone(file)));
    }
    let another = room.spare == Want::Yes && room.spares.is_empty() && room.files < shared.options.files_max;
    if committing && another {
        // No group has been written to it, so any floor will do.
        return Some(Job::Create(FileHeader {
            salt: shared.salt,
            generation: room.next_generation,
            floor: 0,
        }));
    }
    match room.sealed.front() {
        Some(sealed) if room.replay == Replay::Done => Some(Job::Release(Arc::clone(sealed))),
        _ => None,
    }
}

/// One step of growth: a sync of the committer's may have to carry it along.
fn grow(shared: &Shared, file: &JournalFile) -> Result<(), JournalError> {
    let next = (file.capacity() + shared.options.growth_bytes).min(shared.options.file_bytes);
    let grown = file.grow(next);
    let refused = match grown {
        Err(error) if error.source.kind() == ErrorKind::StorageFull => true,
        other => {
            other?;
            false
        }
    };
    shared.change(|room| match &room.growth {
        _ if refused => room.growth = Growth::Refused,
        Growth::Wanted { bytes, .. } if file.capacity() >= (*bytes).min(shared.options.file_bytes) => {
            room.growth = Growth::Enough;
        }
        _ => {}
    });
    Ok(())
}

fn create(shared: &Shared, header: FileHeader) -> Result<(), JournalError> {
    match JournalFile::create(&*shared.storage, &shared.dir, header, shared.options.first_bytes) {
        Ok(file) => shared.change(|room| {
            room.next_generation += 1;
            room.files += 1;
            room.spares.push_back(file);
        }),
        Err(error) if error.source.kind() == ErrorKind::StorageFull => {
            tracing::warn!(%error, "no room for another journal file");
            shared.change(|room| room.spare = Want::OnlyFreed);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Syncs each file once, however many wait for it.
fn sync(shared: &Shared, requests: VecDeque<SyncRequest>) -> Result<(), JournalError> {
    let mut synced: Vec<Arc<dyn StorageFile>> = Vec::new();
    let mut result = Ok(());
    for request in requests {
        for file in request.files {
            if result.is_ok() && !synced.iter().any(|known| Arc::ptr_eq(known, &file)) {
                result = shared.check().and_then(|()| sync_segment(shared, &*file));
                synced.push(file);
            }
        }
        if let Err(error) = &result {
            shared.fail(error);
        }
        (request.done)(result.clone().and_then(|()| shared.check()));
    }
    result
}

/// Syncs one partition of a full file, or, when none is left, prepares the file anew.
fn release_step(shared: &Shared, sealed: &SealedFile) -> Result<(), JournalError> {
    let dirty = || sealed.dirty.lock().unwrap_or_else(PoisonError::into_inner);
    let next = dirty().next();
    let Some((partition, left)) = next else { return recycle(shared, sealed) };
    for segment in &left.segments {
        sync_segment(shared, &**segment)?;
    }
    // Forgotten only now: until then a sync of the whole partition must find it here.
    dirty().forget(partition);
    if let Some(end) = left.end {
        shared.observer.synced(partition, end);
    }
    Ok(())
}

/// Makes a full file that holds nothing of value into an empty one.
fn recycle(shared: &Shared, sealed: &SealedFile) -> Result<(), JournalError> {
    let (generation, surplus) = {
        let room = shared.room();
        (room.next_generation, room.files > shared.options.files_max)
    };
    if surplus {
        let path = &sealed.file.path;
        shared.storage.remove(path).map_err(failed("removing", path))?;
        shared.storage.sync_dir(&shared.dir).map_err(failed("syncing", &shared.dir))?;
        shared.change(|room| {
            room.sealed.pop_front();
            room.files -= 1;
        });
        return Ok(());
    }
    let header = FileHeader { salt: shared.salt, generation, floor: sealed.end_sequence };
    let file = sealed.file.reuse(header)?;
    shared.metrics.file_recycled();
    shared.change(|room| {
        room.next_generation += 1;
        room.sealed.pop_front();
        room.spares.push_back(file);
    });
    Ok(())
}

/// Syncs a segment file.
pub(super) fn sync_segment(shared: &Shared, segment: &dyn StorageFile) -> Result<(), JournalError> {
    shared.metrics.segment_synced();
    segment.sync_data().map_err(failed("syncing a segment for", &shared.dir))
}
