use kv_core::store::{Batch, Space};

use super::*;
use crate::disk::MemDisk;
use crate::wal::reader::{LogStart, replay};

const DIRECTORY: &str = "/db";
const START: u64 = 500;

fn log(zeros_max: u64) -> (Arc<dyn Disk>, LogWriter) {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir(Path::new(DIRECTORY)).unwrap();
    let log = LogWriter::create(Arc::clone(&disk), Path::new(DIRECTORY), 3, START, SegmentEnd::default(), 0, None);
    (disk, log.unwrap().zeros_up_to(zeros_max))
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
        assert_eq!(read, batch());
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
