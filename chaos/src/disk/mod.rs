//! A disk for each node: a FUSE file system that forgets what was not synced, fails, fills up and slows down on demand; or,
//! where FUSE is not to be had, a plain directory that does none of that and says so.

mod file;
mod fs;
mod tree;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::Fallible;
pub use file::Loss;
use tree::Tree;
pub use tree::pick;

/// What a healthy disk has room for, in bytes.
const CAPACITY: u64 = 16 << 30;

/// How slow a disk is.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// What each sync takes longer.
    pub sync: Duration,
    /// How many bytes a second can be written.
    pub bytes_per_second: u64,
}

/// What of a disk does not return until it is healed. Reads go on: what matters is in memory, or on another part of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hang {
    /// Syncs.
    Syncs,
    /// Syncs and writes.
    Writes,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ailments {
    /// Syncs fail with EIO.
    pub fail_syncs: bool,
    /// Writes fail with EIO.
    pub fail_writes: bool,
    /// It has room for so many bytes in all, instead of plenty.
    pub room: Option<u64>,
    /// It is slow.
    pub slow: Option<Slow>,
    /// It hangs. A process of which a thread waits for it can't even be killed.
    pub hang: Option<Hang>,
}

/// What a disk was asked and what it refused.
#[derive(Clone, Copy, Default, Debug)]
pub struct DiskCounts {
    /// Syncs of files.
    pub syncs: u64,
    /// Writes.
    pub writes: u64,
    /// EIO and ENOSPC.
    pub refused: u64,
}

/// A bit that was turned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rot {
    /// In which file.
    pub path: PathBuf,
    ino: u64,
    /// In which byte.
    pub at: u64,
    /// Which bit.
    pub bit: u32,
    byte: u8,
}

struct State {
    tree: Tree,
    ailments: Ailments,
    counts: DiskCounts,
}

/// What the file system's thread and the faults share.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk of which faults can make what they want.
pub struct LossyDisk {
    shared: Shared,
    session: Option<BackgroundSession>,
}

/// See the module.
pub enum Media {
    /// With faults.
    Lossy(LossyDisk),
    /// Without.
    Plain,
}

/// A node's disk, to be used through [`Self::path`].
pub struct Disk {
    path: PathBuf,
    media: Media,
}

/// Which disks can be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum DiskKind {
    /// FUSE where it works, else plain directories.
    Auto,
    /// FUSE or nothing.
    Fuse,
    /// Plain directories: no power cuts, no disk faults.
    Plain,
}

impl Disk {
    /// Puts an empty disk at `path`; what is on it lies in `store`.
    ///
    /// # Errors
    /// When nothing can be mounted there.
    pub fn lossy(path: &Path, store: &Path) -> Fallible<Self> {
        std::fs::create_dir_all(path)?;
        let state =
            State { tree: Tree::new(store)?, ailments: Ailments::default(), counts: DiskCounts::default() };
        let shared = Shared(Arc::new(Mutex::new(state)));
        let session = Some(mount(path, &shared)?);
        Ok(Self { path: path.to_owned(), media: Media::Lossy(LossyDisk { shared, session }) })
    }

    /// A plain directory.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn plain(path: &Path) -> Fallible<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), media: Media::Plain })
    }

    /// Where programs find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can fail and forget.
    pub fn is_lossy(&self) -> bool {
        matches!(self.media, Media::Lossy(_))
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        match &self.media {
            Media::Lossy(disk) => Some(disk.shared.lock()),
            Media::Plain => None,
        }
    }

    /// Changes what is wrong with it; nothing on a plain directory.
    pub fn ail(&self, change: impl FnOnce(&mut Ailments)) {
        if let Some(mut state) = self.state() {
            change(&mut state.ailments);
        }
    }

    /// Bytes in use; 0 for a plain directory, which is not counted.
    pub fn used(&self) -> u64 {
        self.state().map_or(0, |state| state.tree.used())
    }

    /// What it was asked.
    pub fn counts(&self) -> DiskCounts {
        self.state().map_or_else(DiskCounts::default, |state| state.counts)
    }

    /// The power goes: everything unsynced is forgotten as `loss` says. Nobody may have it open. Returns how many bytes
    /// were at stake.
    ///
    /// # Errors
    /// When it can't be unmounted and mounted again.
    pub fn cut(&mut self, loss: Loss, rng: &mut StdRng) -> Fallible<u64> {
        let Media::Lossy(disk) = &mut self.media else { return Ok(0) };
        disk.unmount()?;
        let at_stake = {
            let mut state = disk.shared.lock();
            let at_stake = state.tree.unsynced();
            state.tree.cut(loss, rng)?;
            at_stake
        };
        disk.session = Some(mount(&self.path, &disk.shared)?);
        Ok(at_stake)
    }

    /// Everything on it is gone for ever. Nobody may have it open.
    ///
    /// # Errors
    /// When it can't be unmounted and mounted again, or removed.
    pub fn wipe(&mut self) -> Fallible<()> {
        match &mut self.media {
            Media::Lossy(disk) => {
                disk.unmount()?;
                disk.shared.lock().tree.wipe();
                disk.session = Some(mount(&self.path, &disk.shared)?);
            }
            Media::Plain => {
                std::fs::remove_dir_all(&self.path)?;
                std::fs::create_dir_all(&self.path)?;
            }
        }
        Ok(())
    }

    /// Turns one bit of what has long been synced, in a file that `choose` likes. Nobody may have it open.
    ///
    /// # Errors
    /// When the disk can't be unmounted and mounted again, or read.
    pub fn flip_bit(&mut self, choose: impl Fn(&Path) -> bool, rng: &mut StdRng) -> Fallible<Option<Rot>> {
        let Media::Lossy(disk) = &mut self.media else { return Ok(None) };
        disk.unmount()?;
        let mut flipped = None;
        {
            let mut state = disk.shared.lock();
            let paths: Vec<_> = state.tree.paths().into_iter().filter(|(path, _)| choose(path)).collect();
            for _ in 0..100 {
                let Some((path, ino)) = pick(&paths, rng) else { break };
                let Ok(file) = state.tree.file(*ino) else { continue };
                let at = rng.random_range(0..file.size().max(1));
                let bit = rng.random_range(0..8);
                if let Some(byte) = file.flip_bit(at, bit)? {
                    flipped = Some(Rot { path: path.clone(), ino: ino.0, at, bit, byte });
                    break;
                }
            }
        }
        disk.session = Some(mount(&self.path, &disk.shared)?);
        Ok(flipped)
    }

    /// Whether a bit that was turned still is.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn has(&self, rot: &Rot) -> Fallible<bool> {
        let Some(mut state) = self.state() else { return Ok(false) };
        match state.tree.file(tree::Ino(rot.ino)) {
            Ok(file) => Ok(file.byte(rot.at)? == Some(rot.byte)),
            // The file is gone.
            Err(_) => Ok(false),
        }
    }

    /// Turns a bit back that nobody has noticed. Nobody may have it open.
    ///
    /// # Errors
    /// When the disk can't be unmounted and mounted again, or read.
    pub fn take_back(&mut self, rot: &Rot) -> Fallible<()> {
        let Media::Lossy(disk) = &mut self.media else { return Ok(()) };
        disk.unmount()?;
        if let Ok(file) = disk.shared.lock().tree.file(tree::Ino(rot.ino)) {
            file.flip_bit(rot.at, rot.bit)?;
        }
        disk.session = Some(mount(&self.path, &disk.shared)?);
        Ok(())
    }

    /// Copies what programs see into an ordinary directory, for whoever looks into a failure.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn export(&self, to: &Path) -> Fallible<()> {
        match self.state() {
            Some(state) => Ok(state.tree.export(to)?),
            None => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Media::Lossy(disk) = &mut self.media
            && let Err(error) = disk.unmount()
        {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}

impl LossyDisk {
    fn unmount(&mut self) -> Fallible<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match session.umount_and_join() {
            // The kernel gave up the connection instead of closing it: either way nobody uses it any more.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(()),
            ended => Ok(ended?),
        }
    }
}

fn mount(path: &Path, shared: &Shared) -> Fallible<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("vltava-chaos".to_owned()), MountOption::NoAtime];
    config.acl = SessionACL::Owner;
    let session = Session::new(fs::LossyFs::new(shared.clone()), path, &config)
        .map_err(|error| format!("nothing can be mounted at {}: {error}", path.display()))?;
    Ok(session.spawn()?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use rand::SeedableRng;
    use tempfile::TempDir;

    use super::*;

    /// A disk through the kernel; `None` where this user can't mount one.
    fn disk(dir: &TempDir) -> Option<Disk> {
        match Disk::lossy(&dir.path().join("disk"), &dir.path().join("store")) {
            Ok(disk) => Some(disk),
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                None
            }
        }
    }

    #[test]
    fn through_the_kernel_a_cut_leaves_what_was_synced_and_nothing_else() {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let Some(mut disk) = disk(&dir) else { return };
        let path = disk.path().to_owned();
        let write = |name: &str, bytes: &[u8], sync: bool| {
            let mut file = File::options().create(true).append(true).open(path.join(name)).unwrap();
            file.write_all(bytes).unwrap();
            if sync {
                file.sync_data().unwrap();
            }
        };
        write("kept", b"synced", true);
        File::open(&path).unwrap().sync_all().unwrap();
        write("kept", b", lost", false);
        write("nameless", b"synced", true);
        assert_eq!(fs::read(path.join("kept")).unwrap(), b"synced, lost");
        disk.cut(Loss::Everything, &mut StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(fs::read(path.join("kept")).unwrap(), b"synced");
        assert!(!path.join("nameless").exists());
        write("kept", b" again", true);
        disk.wipe().unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn through_the_kernel_a_disk_that_hangs_returns_when_it_is_healed() {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let Some(disk) = disk(&dir) else { return };
        let path = disk.path().join("file");
        std::fs::write(&path, b"before").unwrap();
        for (hang, writes) in [(Hang::Syncs, true), (Hang::Writes, false)] {
            disk.ail(|ailments| ailments.hang = Some(hang));
            let (told, steps) = std::sync::mpsc::channel();
            let of_thread = path.clone();
            let writer = std::thread::spawn(move || {
                let mut file = File::options().append(true).open(of_thread).unwrap();
                told.send("opened").unwrap();
                file.write_all(b", after").unwrap();
                told.send("written").unwrap();
                file.sync_data().unwrap();
                told.send("synced").unwrap();
            });
            let next = |limit| steps.recv_timeout(limit).ok();
            let (soon, long) = (Duration::from_millis(200), Duration::from_secs(20));
            assert_eq!(next(long), Some("opened"));
            if writes {
                assert_eq!(next(long), Some("written"));
            }
            assert_eq!(next(soon), None, "{hang:?}");
            assert!(std::fs::read(disk.path().join("file")).is_ok_and(|bytes| bytes.starts_with(b"before")));
            disk.ail(|ailments| ailments.hang = None);
            if !writes {
                assert_eq!(next(long), Some("written"));
            }
            assert_eq!(next(long), Some("synced"));
            writer.join().unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"before, after, after");
    }

    #[test]
    fn through_the_kernel_a_sick_disk_says_so() {
        let dir = TempDir::new().expect("a temporary directory can be made");
        let Some(disk) = disk(&dir) else { return };
        let mut file = File::create(disk.path().join("file")).unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        disk.ail(|ailments| ailments.fail_syncs = true);
        assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
        disk.ail(|ailments| *ailments = Ailments { room: Some(15_000), ..Ailments::default() });
        file.sync_all().unwrap();
        let full = file.write_all(&[1; 10_000]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let room = rustix::fs::statvfs(disk.path()).unwrap();
        assert!(room.f_bavail * room.f_bsize < 15_000);
        let slow = Slow { sync: Duration::from_millis(80), bytes_per_second: 1 << 30 };
        disk.ail(|ailments| *ailments = Ailments { slow: Some(slow), ..Ailments::default() });
        let began = std::time::Instant::now();
        file.sync_all().unwrap();
        assert!(began.elapsed() >= slow.sync);
        assert!(disk.counts().refused >= 2);
    }
}
