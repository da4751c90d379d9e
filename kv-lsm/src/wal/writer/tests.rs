use kv_core::store::{Batch, Space};

use super::*;
use crate::disk::MemDisk;
use crate::wal::reader::{LogStart, replay};

const DIRECTORY: &str = "/db";
const START: u64 = 50_000;

fn log(zeros_max: u64) -> (Arc<dyn Disk>, LogWriter) {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir(Path::new(DIRECTORY)).unwrap();
    let log = LogWriter::create(Arc::clone(&disk), Path::new(DIRECTORY), 3, START, SegmentEnd::default(), 0, None);
    (disk, log.unwrap().ahead(Ahead { bytes_max: zeros_max, store_behind_bytes: u64::MAX }))
}

fn batch() -> Batch {
    let mut batch = Batch::new();
    batch.put(Space(1), b"key", &[7; 100]);
    batch
}

/// Appends so many batches, each of them synced before the next when told so. Returns how often the file grew.
fn append(log: &mut LogWriter, count: u64, synced: bool) -> usize {
    let (mut through, mut grew) = (START, 0);
    for number in 1..=count {
        let before = log.file().len().unwrap();
        log.append(through, number, batch().as_bytes()).unwrap();
        grew += usize::from(log.file().len().unwrap() > before);
        if synced {
            through = log.position();
        }
    }
    grew
}

fn replayed(disk: &dyn Disk) -> (u64, usize) {
    let begin = LogStart { segment: 3, position: START, sequence: 1 };
    let replayed = replay(disk, Path::new(DIRECTORY), &[3], begin, &mut |_, read| {
        assert_eq!(*read, batch());
        Ok(())
    });
    let replayed = replayed.unwrap();
    (replayed.last_sequence, replayed.discarded.len())
}

#[test]
fn a_file_that_is_synced_often_grows_seldom() {
    let (disk, mut log) = log(8 << 20);
    let grew = append(&mut log, 10_000, true);
    assert!(grew < 60, "of 4 KiB on it doubles, and grows by 256 KiB later: {grew} times");
    let length = log.file().len().unwrap();
    assert!(length % 4096 == 0 && length - log.offset <= ZEROS_BYTES_MAX + FILE_BLOCK_BYTES);
    assert_eq!(replayed(disk.as_ref()), (10_000, 0), "zeros are no torn tail");
}

#[test]
fn a_file_that_is_not_synced_holds_no_more_than_what_was_written() {
    let (disk, mut log) = log(8 << 20);
    assert_eq!(append(&mut log, 1000, false), 1000);
    assert_eq!(log.file().len().unwrap(), log.offset);
    // What comes long after the last sync is not written twice either.
    let far = log.position() - ZEROS_WITHIN_BYTES - 1;
    log.append(far, 1001, batch().as_bytes()).unwrap();
    assert_eq!(log.file().len().unwrap(), log.offset);
    assert_eq!(replayed(disk.as_ref()), (1001, 0));
}

/// The same log, of which all records are stored.
fn stored(bytes_max: u64) -> (Arc<dyn Disk>, LogWriter) {
    let (disk, log) = log(0);
    (disk, log.ahead(Ahead { bytes_max, store_behind_bytes: 0 }))
}

#[test]
fn a_log_that_is_stored_has_room_ahead_that_is_no_torn_tail() {
    let (disk, mut log) = stored(8 << 20);
    let grew = append(&mut log, 20_000, false);
    assert!(grew < 20, "the room doubles, up to a mebibyte at a time: {grew} times");
    let length = log.file().len().unwrap();
    assert!(length > log.offset && length - log.offset <= ROOM_BYTES_MAX + FILE_BLOCK_BYTES, "{length}");
    assert_eq!(replayed(disk.as_ref()), (20_000, 0));
}

#[test]
fn room_ends_where_the_segment_does() {
    let (_disk, mut log) = stored(5000);
    for segment in 4..6 {
        append(&mut log, 36, false);
        assert!(log.offset > 4096 && log.file().len().unwrap() == 5000, "{}", log.offset);
        append(&mut log, 4, false);
        assert_eq!(log.file().len().unwrap(), log.offset, "what goes beyond it is written");
        log.rotate(segment, log.position(), None).unwrap();
    }
}

#[test]
fn records_are_stored_only_far_behind_the_last_sync() {
    let (disk, log) = log(0);
    let mut log = log.ahead(Ahead { bytes_max: 1 << 20, store_behind_bytes: 10_000 });
    let room = |log: &LogWriter| log.file().len().unwrap() - log.offset;
    append(&mut log, 50, false);
    assert_eq!(room(&log), 0, "too near");
    let near = log.position() - 9_999;
    log.append(near, 51, batch().as_bytes()).unwrap();
    assert_eq!(room(&log), 0, "still too near");
    let far = log.position() - 10_000;
    log.append(far, 52, batch().as_bytes()).unwrap();
    assert!(room(&log) > 0);
    assert_eq!(replayed(disk.as_ref()), (52, 0));
}

#[test]
fn without_room_ahead_a_record_is_written() {
    use crate::disk::{CallKind, Effect, Fault, SimDisk};
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new(DIRECTORY)).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = LogWriter::create(Arc::clone(&shared), Path::new(DIRECTORY), 3, START, SegmentEnd::default(), 0, None);
    let mut log = log.unwrap().ahead(Ahead { bytes_max: 1 << 20, store_behind_bytes: 0 });
    disk.inject(Fault::new(Effect::Fail(io::ErrorKind::StorageFull)).on(CallKind::Allocate).for_ever());
    append(&mut log, 100, false);
    assert_eq!(disk.faults_met(), 1, "it is tried once for each segment");
    assert_eq!(replayed(shared.as_ref()), (100, 0));
}

#[test]
fn zeros_end_where_the_segment_does() {
    let (_disk, mut log) = log(5000);
    for segment in 4..6 {
        append(&mut log, 33, true);
        assert!(log.offset > 4096 && log.offset < 5000, "{}", log.offset);
        assert_eq!(log.file().len().unwrap(), 5000, "the next segment does the same");
        log.rotate(segment, log.position(), None).unwrap();
    }
}
