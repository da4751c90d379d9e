use std::sync::Arc;

use kv_core::store::{Operation, Space};

use super::*;
use crate::disk::MemDisk;
use crate::wal::writer::LogWriter;

const DIRECTORY: &str = "/db";
const BEGIN: LogStart = LogStart { segment: 3, position: 500, sequence: 1 };

fn batch(number: u64, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(Space(1), &number.to_be_bytes(), &vec![7; bytes]);
    batch
}

/// Segments 3 and 5 with these records; the second states `synced` in its header and chunks. Returns the position where the
/// first ends.
fn write(first: &[usize], second: &[usize], synced: u64) -> (Arc<dyn Disk>, u64) {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir(Path::new(DIRECTORY)).unwrap();
    let directory = Path::new(DIRECTORY);
    let mut log = LogWriter::create(Arc::clone(&disk), directory, 3, 500, SegmentEnd::default(), 0, None).unwrap();
    let mut number = 0;
    for &bytes in first {
        number += 1;
        log.append(0, number, batch(number, bytes).as_bytes()).unwrap();
    }
    let end = log.position();
    log.rotate(5, synced, None).unwrap();
    for &bytes in second {
        number += 1;
        log.append(synced, number, batch(number, bytes).as_bytes()).unwrap();
    }
    (disk, end)
}

fn numbers(disk: &Arc<dyn Disk>) -> Result<(Vec<u64>, Replayed), Error> {
    numbers_in(disk, &[3, 5])
}

fn numbers_in(disk: &Arc<dyn Disk>, segments: &[u64]) -> Result<(Vec<u64>, Replayed), Error> {
    let mut numbers = Vec::new();
    let replayed = replay(disk.as_ref(), Path::new(DIRECTORY), segments, BEGIN, &mut |first, read| {
        let Some(Operation::Put { value, .. }) = read.iter().next() else { panic!("a put was written") };
        assert_eq!(*read, batch(first, value.len()), "each record is what was written");
        numbers.push(first);
        Ok(())
    })?;
    Ok((numbers, replayed))
}

fn cut(disk: &Arc<dyn Disk>, segment: u64, by: u64) {
    let file = disk.open(&files::log(Path::new(DIRECTORY), segment), OpenMode::ReadWrite).unwrap();
    file.truncate(file.len().unwrap() - by).unwrap();
}

fn flip(disk: &Arc<dyn Disk>, segment: u64, offset: u64) {
    let file = disk.open(&files::log(Path::new(DIRECTORY), segment), OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    read_exact_at(file.as_ref(), &mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn records_of_any_size_come_back_across_blocks_and_segments() {
    for bytes in [0, 1, 32_600, 32_659, 32_660, 32_661, 32_675, 32_700, 65_300, 200_000] {
        let (disk, _) = write(&[bytes, 5, bytes, 40_000], &[bytes, bytes, 1], 0);
        let (numbers, replayed) = numbers(&disk).unwrap();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7], "{bytes}");
        assert_eq!(replayed.last_sequence, 7);
        assert!(replayed.discarded.is_empty());
    }
}

#[test]
fn engine_rule_02_replay_never_crosses_a_gap() {
    // The last record of the first segment is missing whole: what is there is well-formed, only too short.
    let record = 15 + 8 + batch(2, 10).as_bytes().len() as u64;
    let (disk, _) = write(&[10, 10], &[10], 0);
    cut(&disk, 3, record);
    let (found, replayed) = numbers(&disk).unwrap();
    assert_eq!(found, [1], "the second segment is behind a gap");
    assert_eq!(replayed.discarded.len(), 1);
    assert!(replayed.discarded[0].path.ends_with("000005.log") && replayed.discarded[0].offset == 0);
}

#[test]
fn engine_rule_02_a_predecessor_with_another_checksum_is_a_gap() {
    let (disk, _) = write(&[10, 10], &[10], 0);
    // The same records under another synced position: each chunk is whole, and none is what the second segment followed.
    let path = files::log(Path::new(DIRECTORY), 3);
    disk.remove(&path).unwrap();
    let mut log =
        LogWriter::create(Arc::clone(&disk), Path::new(DIRECTORY), 3, 500, SegmentEnd::default(), 0, None).unwrap();
    log.append(1, 1, batch(1, 10).as_bytes()).unwrap();
    log.append(1, 2, batch(2, 10).as_bytes()).unwrap();
    assert_eq!(numbers(&disk).unwrap().0, [1, 2]);
}

/// A log that went on in segment 3 after segment 4 could not be begun: the header of that one stays as a power cut may leave it.
fn with_a_segment_given_up(after: &[usize], synced: u64) -> (Arc<dyn Disk>, LogWriter) {
    let (disk, directory): (Arc<dyn Disk>, _) = (Arc::new(MemDisk::new()), Path::new(DIRECTORY));
    disk.create_dir(directory).unwrap();
    let mut log = LogWriter::create(Arc::clone(&disk), directory, 3, 500, SegmentEnd::default(), 0, None).unwrap();
    log.append(0, 1, batch(1, 10).as_bytes()).unwrap();
    let path = files::log(directory, 3);
    let before = read_file(disk.as_ref(), &path).unwrap();
    log.rotate(4, 0, None).unwrap();
    // Back to the segment before.
    disk.remove(&path).unwrap();
    let mut log = LogWriter::create(Arc::clone(&disk), directory, 3, 500, SegmentEnd::default(), 0, None).unwrap();
    log.append(0, 1, batch(1, 10).as_bytes()).unwrap();
    assert_eq!(read_file(disk.as_ref(), &path).unwrap(), before);
    for (number, &bytes) in (2..).zip(after) {
        log.append(synced, number, batch(number, bytes).as_bytes()).unwrap();
    }
    (disk, log)
}

#[test]
fn engine_rule_02_a_segment_that_was_never_used_does_not_end_the_one_before() {
    let (disk, mut log) = with_a_segment_given_up(&[10, 40_000, 20], 0);
    let (found, replayed) = numbers_in(&disk, &[3, 4]).unwrap();
    assert_eq!(found, [1, 2, 3, 4]);
    assert_eq!(replayed.discarded.len(), 0, "nothing is lost with an empty segment");
    // Nor does it take the place of the one that follows at last, even when nothing came between.
    log.rotate(5, 0, None).unwrap();
    log.append(0, 5, batch(5, 10).as_bytes()).unwrap();
    assert_eq!(numbers_in(&disk, &[3, 4, 5]).unwrap().0, [1, 2, 3, 4, 5]);
    let (disk, mut log) = with_a_segment_given_up(&[], 0);
    log.rotate(5, 0, None).unwrap();
    log.append(0, 2, batch(2, 10).as_bytes()).unwrap();
    assert_eq!(numbers_in(&disk, &[3, 4, 5]).unwrap().0, [1, 2]);
}

#[test]
fn lesson_41_what_lies_behind_the_end_that_a_successor_states_counts_too() {
    // The record behind the end is damaged, the one after it says that it was durable.
    let (disk, log) = with_a_segment_given_up(&[10], 0);
    let (end, at) = (log.position(), log.position() - 500);
    drop((disk, log));
    let (disk, _) = with_a_segment_given_up(&[10, 10], end);
    flip(&disk, 3, at - 1);
    assert!(matches!(numbers_in(&disk, &[3, 4]).unwrap_err(), Error::Corrupt { .. }));
    // And here nothing says so.
    let (disk, _) = with_a_segment_given_up(&[10, 10], 0);
    flip(&disk, 3, at - 1);
    let (found, replayed) = numbers_in(&disk, &[3, 4]).unwrap();
    assert_eq!(found, [1]);
    assert_eq!(replayed.discarded.len(), 1, "what is torn is kept aside");
    assert!(replayed.discarded[0].path.ends_with("000003.log"), "{:?}", replayed.discarded);
}

#[test]
fn lesson_41_what_later_chunks_state_decides_between_torn_and_corrupt() {
    for offset in [70, 76, 78, 90] {
        // Nothing states that the damaged record was durable.
        let (disk, _) = write(&[10, 10, 10], &[10], 500 + 64);
        flip(&disk, 3, offset);
        let (found, replayed) = numbers(&disk).unwrap();
        assert_eq!(found, [0_u64; 0]);
        assert_eq!(replayed.discarded.len(), 2, "the rest of the segment, and the next");
        // Here the next segment does.
        let (disk, end) = write(&[10, 10, 10], &[10], 500 + 64);
        let (stating, _) = write(&[10, 10, 10], &[10], end);
        drop(disk);
        flip(&stating, 3, offset);
        let corrupt = numbers(&stating).unwrap_err();
        assert!(
            matches!(&corrupt, Error::Corrupt { file, offset: 64, .. } if file.ends_with("000003.log")),
            "{corrupt}"
        );
    }
}

#[test]
fn any_bytes_end_in_records_or_an_error() {
    let mut state = 11_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let (disk, _) = write(&[10, 300, 33_000], &[10, 10], random(40_000));
        for _ in 0..=random(3) {
            flip(&disk, if random(2) == 0 { 3 } else { 5 }, random(150));
        }
        cut(&disk, if random(2) == 0 { 3 } else { 5 }, random(40));
        if let Ok((found, _)) = numbers(&disk) {
            assert!(found.iter().copied().eq(1..=found.len() as u64), "a prefix without a gap: {found:?}");
        }
    }
}
