//! The journal's thread that syncs at leisure: files that someone waits for first, then what a start left unsynced, then the
//! segments that full journal files touched, oldest first, so that those files can be used again.
//!
//! It may be held up by one slow sync for long; nothing that the committer needs soon is its business. Knows nothing
//! of groups.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use vltava_model::seeded::{SeededBug, seeded};

use super::dirty::Dirty;
use super::error::{JournalError, failed};
use super::format::FileHeader;
use super::shared::{Replay, SealedFile, Shared, Stage, SyncRequest};
use vltava_storage::StorageFile;
use vltava_threads::lock;

/// Whether there was something to sync.
enum Left {
    Some,
    Nothing,
}

enum Job {
    Sync(VecDeque<SyncRequest>),
    Replayed,
    Release(Arc<SealedFile>),
}

/// Works until the journal ends.
pub(super) fn run(shared: &Shared) {
    while let Some(job) = next_job(shared) {
        let result = match job {
            Job::Sync(requests) => sync(shared, requests),
            Job::Replayed => sync_one(shared, &shared.replayed).map(drop),
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
        let failed = shared.check().is_err();
        let next = match room.replay {
            Replay::Done if failed => None,
            Replay::Done if !lock(&shared.replayed).is_empty() => Some(Job::Replayed),
            Replay::Done => room.sealed.front().map(|sealed| Job::Release(Arc::clone(sealed))),
            Replay::Pending => None,
        };
        match (room.stage, next) {
            (Stage::Running | Stage::Closing | Stage::Emptying, Some(job)) => return Some(job),
            (Stage::Stopping, _) | (Stage::Emptying, None) => return None,
            (Stage::Running | Stage::Closing, None) => room = shared.wait(room),
        }
    }
}

/// Syncs each file once, however many wait for it.
fn sync(shared: &Shared, requests: VecDeque<SyncRequest>) -> Result<(), JournalError> {
    let mut synced: Vec<Arc<dyn StorageFile>> = Vec::new();
    let mut result = Ok(());
    for request in requests {
        for file in request.files {
            if result.is_ok() && !synced.iter().any(|known| Arc::ptr_eq(known, &file)) {
                result = shared.check().and_then(|()| sync_if_there(shared, &*file));
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
    match sync_one(shared, &sealed.dirty)? {
        Left::Some => Ok(()),
        Left::Nothing => recycle(shared, sealed),
    }
}

/// Syncs one partition, if one is left.
fn sync_one(shared: &Shared, dirty: &Mutex<Dirty>) -> Result<Left, JournalError> {
    let next = lock(dirty).next();
    let Some((partition, left)) = next else { return Ok(Left::Nothing) };
    for segment in left.segments.iter().filter(|_| !seeded(SeededBug::RecyclesBeforeSync)) {
        sync_if_there(shared, &**segment)?;
    }
    // Forgotten only now: until then a sync of the whole partition must find it here. The log may have been cut or deleted
    // meanwhile; then nothing is told of it, and while this holds the lock nobody learns that it was.
    let mut dirty = lock(dirty);
    let end = dirty.get(partition).and_then(|left| left.end);
    dirty.forget(partition);
    if let Some(end) = end {
        shared.observer.synced(partition, end);
    }
    Ok(Left::Some)
}

/// Makes a full file that holds nothing of value into an empty one.
fn recycle(shared: &Shared, sealed: &SealedFile) -> Result<(), JournalError> {
    let surplus = shared.room().files > shared.options.files_max;
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
    shared.next_generation(|generation| {
        let header = FileHeader { salt: shared.salt, generation, floor: sealed.end_sequence };
        let file = sealed.file.reuse(header)?;
        shared.metrics.file_recycled();
        shared.change(|room| {
            room.sealed.pop_front();
            room.spares.push_back(file);
        });
        Ok(())
    })
}

/// Syncs a segment file at leisure. Its partition may be deleted meanwhile, and then the directory is gone that holds its
/// name: nothing of it has to last.
fn sync_if_there(shared: &Shared, segment: &dyn StorageFile) -> Result<(), JournalError> {
    match sync_segment(shared, segment) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// Syncs a segment file.
pub(super) fn sync_segment(shared: &Shared, segment: &dyn StorageFile) -> Result<(), JournalError> {
    shared.metrics.segment_synced();
    segment.sync_data().map_err(failed("syncing a segment for", &shared.dir))
}
