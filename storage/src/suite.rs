//! What every [`Storage`] does alike: one suite, run against each of them.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use super::Storage;

/// Runs all checks within `root`, an existing empty directory.
pub(super) fn run(storage: &dyn Storage, root: &Path) {
    files(storage, &root.join("files"));
    names(storage, &root.join("names"));
    locks(storage, &root.join("locks"));
}

fn files(storage: &dyn Storage, dir: &Path) {
    storage.create_dir_all(dir).unwrap();
    let path = dir.join("f");
    assert_eq!(storage.open(&path).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    let file = storage.create(&path).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_all_at(0, &[IoSlice::new(b"hello "), IoSlice::new(b"there")]).unwrap();
    file.write_at(13, b"x").unwrap();
    let mut back = [9; 20];
    assert_eq!(file.read_at(0, &mut back).unwrap(), 14);
    assert_eq!(&back[..14], b"hello there\0\0x");
    assert_eq!(file.read_at(14, &mut back).unwrap(), 0);
    assert_eq!(file.read_at(100, &mut back).unwrap(), 0);
    assert_eq!(
        file.read_exact_at(10, &mut back).err().map(|error| error.kind()),
        Some(ErrorKind::UnexpectedEof)
    );

    file.set_len(5).unwrap();
    file.set_len(8).unwrap();
    file.allocate_zeroed(10).unwrap();
    file.allocate_zeroed(4).unwrap();
    assert_eq!(file.len().unwrap(), 10);
    file.sync_data().unwrap();
    let other = storage.create(&path).unwrap();
    other.read_exact_at(0, &mut back[..10]).unwrap();
    assert_eq!(&back[..10], b"hello\0\0\0\0\0");
    other.write_at(0, b"J").unwrap();
    file.read_exact_at(0, &mut back[..1]).unwrap();
    assert_eq!(back[0], b'J');
}

fn names(storage: &dyn Storage, dir: &Path) {
    assert_eq!(storage.list(dir).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert!(storage.create(&dir.join("orphan")).is_err());
    storage.create_dir_all(&dir.join("b").join("c")).unwrap();
    storage.create_dir_all(&dir.join("b")).unwrap();
    let old = storage.create(&dir.join("a")).unwrap();
    storage.create(&dir.join("z")).unwrap().write_at(0, b"z").unwrap();
    storage.sync_dir(dir).unwrap();
    assert_eq!(storage.list(dir).unwrap(), ["a", "b", "z"]);

    storage.rename(&dir.join("z"), &dir.join("a")).unwrap();
    assert_eq!(storage.list(dir).unwrap(), ["a", "b"]);
    assert_eq!(storage.open(&dir.join("a")).unwrap().len().unwrap(), 1);
    old.write_at(0, b"still usable").unwrap();

    storage.create(&dir.join("b").join("f")).unwrap();
    storage.rename(&dir.join("b"), &dir.join("d")).unwrap();
    assert!(storage.exists(&dir.join("d").join("f")).unwrap());
    assert!(!storage.exists(&dir.join("b")).unwrap());
    storage.remove_dir_all(&dir.join("d")).unwrap();
    storage.remove(&dir.join("a")).unwrap();
    assert!(storage.list(dir).unwrap().is_empty());
    assert_eq!(storage.remove(&dir.join("a")).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert!(storage.rename(&dir.join("a"), &dir.join("e")).is_err());
    assert!(storage.remove_dir_all(&dir.join("d")).is_err());
}

fn locks(storage: &dyn Storage, dir: &Path) {
    storage.create_dir_all(dir).unwrap();
    let path = dir.join("lock");
    let held = storage.lock(&path).unwrap().unwrap();
    assert!(storage.lock(&path).unwrap().is_none());
    assert!(storage.lock(&dir.join("other")).unwrap().is_some());
    drop(held);
    assert!(storage.lock(&path).unwrap().is_some());
}
