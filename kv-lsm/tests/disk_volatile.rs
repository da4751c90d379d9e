//! The volatile disk holds back what is not synced, and a power cut throws exactly that away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_lsm::disk::{
    CallKind, Disk, Effect, Fault, File, Lost, MemDisk, OpenMode, OsDisk, SimDisk, Survival, VolatileDisk,
    read_exact_at,
};

fn create<D: Disk>(disk: &D, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

fn content<D: Disk>(disk: &D, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn names<D: Disk>(disk: &D) -> Vec<String> {
    disk.list(Path::new("/")).unwrap()
}

#[test]
fn unsynced_bytes_are_counted_and_thrown_away() {
    let disk = VolatileDisk::new(MemDisk::new());
    let file = create(&disk, "/f");
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(b"synced", 0).unwrap();
    assert_eq!(disk.unsynced_bytes(), 6);
    file.sync().unwrap();
    assert_eq!(disk.unsynced_bytes(), 0);
    file.write_at(b"unsynced", 3).unwrap();
    file.write_at(b"UN", 3).unwrap();
    assert_eq!(disk.unsynced_bytes(), 8, "what is written twice is lost once");
    assert_eq!(content(&disk, "/f"), b"synUNsynced");
    assert_eq!(disk.cut_power().unwrap(), Lost { bytes: 8, files: 0 });
    assert_eq!(disk.cut_power().unwrap(), Lost::default());
    assert_eq!(content(&disk.reboot(), "/f"), b"synced");
}

#[test]
fn a_file_without_a_synced_name_is_thrown_away() {
    let disk = VolatileDisk::new(MemDisk::new());
    create(&disk, "/kept").sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = create(&disk, "/lost");
    file.write_at(b"bytes", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(names(&disk), ["kept", "lost"]);
    assert_eq!(disk.cut_power().unwrap(), Lost { bytes: 0, files: 1 });
    assert_eq!(names(&disk.reboot()), ["kept"]);
}

#[test]
fn unsynced_renames_links_and_removals_are_undone() {
    let disk = VolatileDisk::new(MemDisk::new());
    for name in ["a", "b", "c"] {
        let file = create(&disk, &format!("/{name}"));
        file.write_at(name.as_bytes(), 0).unwrap();
        file.sync().unwrap();
    }
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    disk.remove(Path::new("/c")).unwrap();
    disk.link(Path::new("/b"), Path::new("/d")).unwrap();
    assert_eq!(names(&disk), ["b", "d"]);
    assert_eq!(content(&disk, "/d"), b"a");
    disk.cut_power().unwrap();
    let disk = disk.reboot();
    assert_eq!(names(&disk), ["a", "b", "c"]);
    assert_eq!(content(&disk, "/b"), b"b");
    disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.cut_power().unwrap();
    let disk = disk.reboot();
    assert_eq!(names(&disk), ["b", "c"]);
    assert_eq!(content(&disk, "/b"), b"a");
}

#[test]
fn unsynced_cuts_are_undone() {
    let disk = VolatileDisk::new(MemDisk::new());
    let file = create(&disk, "/f");
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    file.sync().unwrap();
    file.truncate(10).unwrap();
    file.write_at(&[2; 10], 10).unwrap();
    disk.cut_power().unwrap();
    assert_eq!(content(&disk.reboot(), "/f"), [1; 100]);
}

#[test]
fn everything_fails_after_the_cut_until_the_reboot() {
    let keep = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { keep.path().join(name) };
    let disk = VolatileDisk::new(OsDisk::new());
    let guard = disk.lock(&path("LOCK")).unwrap();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    assert!(disk.clone().lock(&path("LOCK")).is_err());
    disk.clone().cut_power().unwrap();
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.sync().is_err());
    assert!(file.len().is_err());
    assert!(file.truncate(0).is_err());
    assert!(file.allocate(10).is_err());
    assert!(disk.open(&path("g"), OpenMode::CreateNew).is_err());
    assert!(disk.list(keep.path()).is_err());
    assert!(disk.remove(&path("LOCK")).is_err());
    assert!(disk.create_dir(&path("d")).is_err());
    assert!(disk.sync_dir(keep.path()).is_err());
    let rebooted = disk.reboot();
    let _second = rebooted.lock(&path("LOCK")).expect("the power cut released the lock");
    drop(guard);
    assert!(rebooted.lock(&path("LOCK")).is_err(), "a late guard of the old boot releases nothing");
    drop(file);
    assert_eq!(rebooted.list(keep.path()).unwrap(), ["LOCK"]);
}

#[test]
#[should_panic(expected = "power must be cut")]
fn a_reboot_needs_a_power_cut() {
    let _ = VolatileDisk::new(MemDisk::new()).reboot();
}

#[test]
fn a_sync_that_fails_below_keeps_the_bytes_readable() {
    let below = SimDisk::new(1);
    let disk = VolatileDisk::new(below.clone());
    let file = create(&disk, "/f");
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(b"abcdef", 0).unwrap();
    file.sync().unwrap();
    file.truncate(3).unwrap();
    file.write_at(b"xyz", 4).unwrap();
    below.inject(Fault::new(Effect::Fail(io::ErrorKind::Other)).on(CallKind::Sync));
    file.sync().unwrap_err();
    assert_eq!(content(&disk, "/f"), b"abc\0xyz");
    assert_eq!(disk.unsynced_bytes(), 3, "still not known to be durable");
    file.write_at(b"!", 5).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk, "/f"), b"abc\0x!z");
    assert_eq!(content(&below.reboot(Survival::None), "/f"), b"abc\0x!z");
}

#[test]
fn a_sync_reaches_the_platter_below() {
    let below = SimDisk::new(1);
    let disk = VolatileDisk::new(below.clone());
    let file = create(&disk, "/f.tmp");
    file.write_at(&[3; 3000], 500).unwrap();
    file.sync().unwrap();
    disk.rename(Path::new("/f.tmp"), Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let after = below.reboot(Survival::None);
    assert_eq!(names(&after), ["f"]);
    assert_eq!(&content(&after, "/f")[500..], [3; 3000]);
}

#[test]
fn a_full_disk_below_shows_when_room_is_allocated() {
    let below = SimDisk::new(1);
    let disk = VolatileDisk::new(below.clone());
    let file = create(&disk, "/f");
    below.set_capacity_bytes(Some(8192));
    assert_eq!(file.allocate(10_000).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.allocate(8192).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[1], 8192).unwrap();
    assert_eq!(file.sync().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_removed_file_takes_its_unsynced_bytes_with_it() {
    let disk = VolatileDisk::new(MemDisk::new());
    let file = create(&disk, "/f");
    file.write_at(&[1; 1000], 0).unwrap();
    disk.remove(Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.unsynced_bytes(), 1000);
    drop(file);
    assert_eq!(disk.unsynced_bytes(), 0);
    assert_eq!(disk.cut_power().unwrap(), Lost::default());
}

/// Appends by several threads, each counting in its own file what it knows to be synced; then the power goes.
#[test]
fn what_was_acknowledged_before_the_cut_is_there_after_it() {
    let disk = VolatileDisk::new(MemDisk::new());
    let synced: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let files: Vec<_> = (0..3).map(|index| create(&disk, &format!("/{index}"))).collect();
    disk.sync_dir(Path::new("/")).unwrap();
    std::thread::scope(|scope| {
        for (file, synced) in files.iter().zip(&synced) {
            scope.spawn(move || {
                for number in 0_u64.. {
                    if file.write_at(&number.to_le_bytes(), number * 8).is_err() {
                        return;
                    }
                    if number % 3 == 0 {
                        match file.sync() {
                            Ok(()) => synced.store(number + 1, Ordering::SeqCst),
                            Err(_) => return,
                        }
                    }
                }
            });
        }
        while synced.iter().any(|synced| synced.load(Ordering::SeqCst) < 500) {
            std::thread::yield_now();
        }
        disk.cut_power().unwrap();
    });
    let disk = disk.reboot();
    for (index, synced) in synced.iter().enumerate() {
        let bytes = content(&disk, &format!("/{index}"));
        let numbers: Vec<u64> = bytes.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
        assert!(numbers.len() as u64 >= synced.load(Ordering::SeqCst));
    }
}
