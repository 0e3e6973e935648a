//! A lossy disk as the kernel sees it: FUSE's operations on a tree, with the disk's ailments in their way.

use std::ffi::OsStr;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::file::BLOCK;
use super::tree::{Content, Ino, Tree, TreeError};
use super::{CAPACITY, Hang, Shared, State};

/// The kernel is the only one that changes anything while it is mounted: what it knows stays true.
const FOREVER: Duration = Duration::from_secs(3600);
/// How soon a disk that is slow notices that it was healed.
const NAP: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Clone)]
pub struct LossyFs {
    shared: Shared,
}

impl From<TreeError> for Errno {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::NotFound => Errno::ENOENT,
            TreeError::Exists => Errno::EEXIST,
            TreeError::NotEmpty => Errno::ENOTEMPTY,
            TreeError::NotDirectory => Errno::ENOTDIR,
            TreeError::IsDirectory => Errno::EISDIR,
            TreeError::AcrossDirectories => Errno::EXDEV,
            TreeError::Backing(error) => {
                // Not injected: whoever reads the outcome must know that the machine itself fails.
                eprintln!("the storage below a lossy disk fails: {error}");
                Errno::EIO
            }
        }
    }
}

fn attributes(tree: &Tree, ino: Ino) -> Result<FileAttr, TreeError> {
    let inode = tree.inode(ino)?;
    let (kind, size, nlink) = match &inode.content {
        Content::File(file) => (FileType::RegularFile, file.size(), 1),
        Content::Directory(_) => (FileType::Directory, BLOCK, 2),
    };
    Ok(FileAttr {
        ino: INodeNo(ino.0),
        size,
        blocks: size.div_ceil(512),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: inode.mode,
        nlink,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    })
}

fn mode(mode: u32) -> u16 {
    // The lowest twelve bits are permissions.
    (mode & 0o7777) as u16
}

impl LossyFs {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Waits as long as the disk's slowness asks, and no longer than it lasts.
    fn drag(&self, time: impl Fn(super::Slow) -> Duration) {
        let began = Instant::now();
        loop {
            let wanted = self.shared.lock().ailments.slow.map_or(Duration::ZERO, &time);
            let left = wanted.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(NAP.min(left));
        }
    }

    /// Does something now; or, while one of these ailments lasts, when it is over, so that whoever asked for it waits and others do
    /// not.
    fn unless_it_hangs(&self, because_of: &'static [Hang], act: impl FnOnce(&Self) + Send + 'static) {
        let hangs =
            |this: &Self| this.shared.lock().ailments.hang.is_some_and(|hang| because_of.contains(&hang));
        if !hangs(self) {
            return act(self);
        }
        let this = self.clone();
        // One for each call of a node's few threads.
        std::thread::spawn(move || {
            while hangs(&this) {
                std::thread::sleep(NAP);
            }
            act(&this);
        });
    }

    fn write_at(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut state = self.shared.lock();
        let State { tree, ailments, counts } = &mut *state;
        counts.writes += 1;
        if ailments.fail_writes {
            counts.refused += 1;
            return Err(Errno::EIO);
        }
        let end = offset + data.len() as u64;
        let grows = end.saturating_sub(tree.file(ino)?.size());
        if ailments.room.is_some_and(|room| grows > 0 && tree.used() + grows > room) {
            counts.refused += 1;
            return Err(Errno::ENOSPC);
        }
        tree.file(ino)?.write(offset, data).map_err(TreeError::Backing)?;
        Ok(tree.touch(ino, None)?)
    }

    fn sync_file(&self, ino: Ino) -> Result<(), Errno> {
        let mut state = self.shared.lock();
        let State { tree, ailments, counts } = &mut *state;
        counts.syncs += 1;
        if ailments.fail_syncs {
            counts.refused += 1;
            tree.file(ino)?.fail_sync();
            return Err(Errno::EIO);
        }
        tree.file(ino)?.sync();
        Ok(())
    }

    fn entry(&self, found: Result<Ino, TreeError>, tree: &Tree, reply: ReplyEntry) {
        match found.and_then(|ino| attributes(tree, ino)) {
            Ok(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for LossyFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.shared.lock();
        self.entry(state.tree.lookup(Ino(parent.0), name), &state.tree, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.shared.lock().tree, Ino(ino.0)) {
            Ok(attributes) => reply.attr(&FOREVER, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        new_mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let ino = Ino(ino.0);
        let mut state = self.shared.lock();
        if state.ailments.fail_writes && size.is_some() {
            state.counts.refused += 1;
            return reply.error(Errno::EIO);
        }
        let resized = match size {
            Some(size) => state.tree.file(ino).and_then(|file| Ok(file.set_size(size)?)),
            None => Ok(()),
        };
        let done = resized
            .and_then(|()| state.tree.touch(ino, new_mode.map(mode)))
            .and_then(|()| attributes(&state.tree, ino));
        match done {
            Ok(attributes) => reply.attr(&FOREVER, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let mut state = self.shared.lock();
        let made = state.tree.create(Ino(parent.0), name, mode(new & !umask));
        self.entry(made, &state.tree, reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, new: u32, umask: u32, reply: ReplyEntry) {
        let mut state = self.shared.lock();
        let made = state.tree.create_directory(Ino(parent.0), name, mode(new & !umask));
        self.entry(made, &state.tree, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.shared.lock().tree.unlink(Ino(parent.0), name).map_err(Errno::from), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.shared.lock().tree.remove_directory(Ino(parent.0), name).map_err(Errno::from), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let done = self.shared.lock().tree.rename(Ino(parent.0), name, Ino(to_parent.0), to);
        empty(done.map_err(Errno::from), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.shared.lock().tree.opened(Ino(ino.0)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.shared.lock();
        if state.ailments.fail_writes {
            state.counts.refused += 1;
            return reply.error(Errno::EIO);
        }
        let made = state.tree.create(Ino(parent.0), name, mode(new & !umask));
        let opened = made.and_then(|ino| {
            state.tree.opened(ino)?;
            attributes(&state.tree, ino)
        });
        match opened {
            Ok(attributes) => {
                reply.created(
                    &FOREVER,
                    &attributes,
                    Generation(0),
                    FileHandle(0),
                    FopenFlags::FOPEN_KEEP_CACHE,
                );
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.shared.lock();
        let read = state.tree.file(Ino(ino.0)).and_then(|file| Ok(file.read(offset, size as usize)?));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (len, data) = (data.len() as u32, data.to_vec());
        self.unless_it_hangs(&[Hang::Writes], move |this| {
            this.drag(|slow| Duration::from_secs_f64(f64::from(len) / slow.bytes_per_second.max(1) as f64));
            match this.write_at(Ino(ino.0), offset, &data) {
                Ok(()) => reply.written(len),
                Err(error) => reply.error(error),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file syncs nothing.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.lock().tree.closed(Ino(ino.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.unless_it_hangs(&[Hang::Syncs, Hang::Writes], move |this| {
            this.drag(|slow| slow.sync);
            empty(this.sync_file(Ino(ino.0)), reply);
        });
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.unless_it_hangs(&[Hang::Syncs, Hang::Writes], move |this| {
            this.drag(|slow| slow.sync);
            let mut state = this.shared.lock();
            if state.ailments.fail_syncs {
                state.counts.refused += 1;
                return reply.error(Errno::EIO);
            }
            empty(state.tree.sync_directory(Ino(ino.0)).map_err(Errno::from), reply);
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.shared.lock();
        let directory = match state.tree.directory(Ino(ino.0)) {
            Ok(directory) => directory,
            Err(error) => return reply.error(error.into()),
        };
        // What stands for the parent matters to nobody here: the kernel resolves `..` itself.
        let dots = [(OsStr::new("."), Ino(ino.0)), (OsStr::new(".."), Ino(ino.0))];
        let names = directory.entries.iter().map(|(name, ino)| (name.as_os_str(), *ino));
        for (at, (name, ino)) in (1..).zip(dots.into_iter().chain(names)).skip(offset as usize) {
            let kind = match state.tree.inode(ino).map(|inode| &inode.content) {
                Ok(Content::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(ino.0), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.shared.lock();
        let capacity = state.ailments.room.unwrap_or(CAPACITY);
        let free = capacity.saturating_sub(state.tree.used()) / BLOCK;
        reply.statfs(capacity / BLOCK, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        how: i32,
        reply: ReplyEmpty,
    ) {
        /// `FALLOC_FL_KEEP_SIZE`: only room is claimed, which is always there.
        const KEEP_SIZE: i32 = 1;
        let mut state = self.shared.lock();
        if state.ailments.room.is_some_and(|room| state.tree.used() + length > room) {
            state.counts.refused += 1;
            return reply.error(Errno::ENOSPC);
        }
        let done = match how {
            KEEP_SIZE => Ok(()),
            0 => state.tree.file(Ino(ino.0)).and_then(|file| {
                let end = offset + length;
                if end > file.size() {
                    file.set_size(end)?;
                }
                Ok(())
            }),
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        empty(done.map_err(Errno::from), reply);
    }
}
