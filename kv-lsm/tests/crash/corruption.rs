//! Every kind of file decays. What is read is right or a typed error, never wrong, and no damaged length is believed.

use std::path::{Path, PathBuf};

use kv_lsm::battery::content::Content;
use kv_lsm::battery::drive::{OnError, run};
use kv_lsm::battery::generate::random_trace;
use kv_lsm::battery::history::History;
use kv_lsm::battery::random::Random;
use kv_lsm::battery::settings::Settings;
use kv_lsm::battery::subject::Subject;
use kv_lsm::battery::trace::{self, Trace, batch};
use kv_lsm::disk::{CallKind, Disk, Effect, Fault, OpenMode, SimDisk, Survival, read_exact_at};
use kv_lsm::{Durability, Error};

use super::allocation::largest_bytes;

/// Nothing the tests do needs more; a believed length would.
const ALLOCATION_BYTES_MAX: usize = 48 << 20;

/// A database that was closed in order, what it holds, and its files with their lengths.
struct Victim {
    disk: SimDisk,
    settings: Settings,
    content: Content,
    /// What a log that lost its end may lead back to.
    history: History,
    files: Vec<(PathBuf, u64)>,
}

fn victim(trace: &Trace) -> Victim {
    let disk = SimDisk::new(1);
    run(&disk, trace, OnError::Stop);
    let engine = Subject::open(&disk, trace.settings).unwrap();
    let mut history = History::starting_with(engine.content().unwrap());
    for number in 300..312 {
        let batch = batch(number, 30);
        engine.write(&batch, Durability::Sync).unwrap();
        history.acknowledge(&batch, false);
    }
    let content = engine.content().unwrap();
    assert_eq!(&content, history.current());
    drop(engine);
    let disk = disk.reboot(Survival::All);
    let files: Vec<_> = disk.files().into_iter().filter(|(_, length)| *length > 0).collect();
    let kinds = |part: &str| files.iter().filter(|(path, _)| path.to_string_lossy().contains(part)).count();
    assert!(kinds(".blob") > 0 || trace.name != trace::blobs().name, "no blob files: {files:?}");
    assert!(kinds(".log") > 0 && kinds(".table") > 0 && kinds("MANIFEST") > 0, "a kind of file is missing: {files:?}");
    Victim { disk, settings: trace.settings, content, history, files }
}

fn is_typed(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. })
}

impl Victim {
    fn copy(&self) -> SimDisk {
        self.disk.reboot(Survival::All)
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        read_exact_at(&*file, &mut bytes, 0).unwrap();
        bytes
    }

    /// The damaged disk gives the right answer or a typed error. With `torn_tail` the log may also have lost its end.
    fn check(&self, damaged: &SimDisk, torn_tail: bool, context: &dyn std::fmt::Display) {
        let typed = |error: &Error| {
            assert!(is_typed(error), "{context}: {error:?} does not say that the bytes are wrong");
        };
        let engine = match Subject::open(damaged, self.settings) {
            Ok(engine) => engine,
            Err(error) => return typed(&error),
        };
        match engine.content() {
            Ok(found) if found == self.content => {}
            Ok(found) if torn_tail => {
                self.history.clone().check_recovered(&found, context);
            }
            Ok(found) => panic!("{context}: {:#?}", self.content.difference(&found)),
            Err(error) => typed(&error),
        }
        // One unreadable block must not make another answer wrong.
        for (keyspace, key, value) in self.content.entries() {
            match engine.keyspaces[keyspace].get(key) {
                Ok(found) if torn_tail => drop(found),
                Ok(found) => assert_eq!(found.as_deref(), Some(&**value), "{context}"),
                Err(error) => typed(&error),
            }
        }
    }
}

fn victims() -> Vec<Victim> {
    vec![victim(&trace::blobs()), victim(&random_trace(21, 60))]
}

/// At most so many offsets of a file, spread over it, ends included.
fn offsets(length: u64, count: u64, random: &mut Random) -> Vec<u64> {
    let stride = (length / count).max(1);
    let mut offsets: Vec<u64> = (0..length).step_by(usize::try_from(stride).unwrap()).collect();
    for offset in &mut offsets {
        *offset = (*offset + random.below(stride)).min(length - 1);
    }
    // Formats keep what matters most at their ends.
    offsets.extend(0..length.min(64));
    offsets.extend(length.saturating_sub(64)..length);
    offsets
}

/// Whether damage up to `end` reaches the marker that a log ends with, which tells how far it was synced. Damage to it and
/// to the record before it cannot be told from a torn tail.
fn takes_the_marker(path: &Path, length: u64, end: u64) -> bool {
    const MARKER_BYTES: u64 = 15;
    path.to_string_lossy().ends_with(".log") && end > length - MARKER_BYTES
}

#[test]
fn flipped_bits_never_give_a_wrong_answer() {
    let mut random = Random::new(1);
    for victim in victims() {
        for (path, length) in &victim.files {
            for offset in offsets(*length, 150, &mut random) {
                let bit = u8::try_from(random.below(8)).unwrap();
                let damaged = victim.copy();
                damaged.flip_bit(path, offset, bit).unwrap();
                victim.check(&damaged, false, &format_args!("{} byte {offset} bit {bit}", path.display()));
            }
        }
    }
}

#[test]
fn zeroed_runs_never_give_a_wrong_answer() {
    let mut random = Random::new(2);
    for victim in victims() {
        for (path, length) in &victim.files {
            for bytes in [1_usize, 16, 512] {
                for offset in offsets(*length, 30, &mut random) {
                    let damaged = victim.copy();
                    damaged.damage(path, offset, &vec![0; bytes]).unwrap();
                    let torn_tail = takes_the_marker(path, *length, offset + bytes as u64);
                    victim.check(&damaged, torn_tail, &format_args!("{} {bytes} zeros at {offset}", path.display()));
                }
            }
        }
    }
}

#[test]
fn truncated_files_never_give_a_wrong_answer() {
    let mut random = Random::new(3);
    for victim in victims() {
        for (path, length) in &victim.files {
            for offset in offsets(*length, 60, &mut random) {
                let damaged = victim.copy();
                damaged.open(path, OpenMode::ReadWrite).unwrap().truncate(offset).unwrap();
                let damaged = damaged.reboot(Survival::All);
                let torn_tail = path.to_string_lossy().ends_with(".log");
                victim.check(&damaged, torn_tail, &format_args!("{} cut to {offset}", path.display()));
            }
        }
    }
}

#[test]
fn missing_files_never_give_a_wrong_answer() {
    for victim in victims() {
        for (path, _) in &victim.files {
            let damaged = victim.copy();
            damaged.remove(path).unwrap();
            let damaged = damaged.reboot(Survival::All);
            let torn_tail = path.to_string_lossy().ends_with(".log");
            victim.check(&damaged, torn_tail, &format_args!("{} missing", path.display()));
        }
    }
}

/// Sectors swapped inside a file, and whole files swapped with siblings: every byte is one that was written once.
#[test]
fn misplaced_bytes_never_give_a_wrong_answer() {
    let mut random = Random::new(4);
    for victim in victims() {
        for (path, length) in &victim.files {
            let bytes = victim.bytes(path);
            let sectors = usize::try_from(length / 256).unwrap();
            for _ in 0..if sectors > 1 { 20 } else { 0 } {
                let (one, other) = (random.index(sectors) * 256, random.index(sectors) * 256);
                let damaged = victim.copy();
                damaged.damage(path, one as u64, &bytes[other..other + 256]).unwrap();
                damaged.damage(path, other as u64, &bytes[one..one + 256]).unwrap();
                let torn_tail = path.to_string_lossy().ends_with(".log");
                victim.check(&damaged, torn_tail, &format_args!("{}: {one} and {other} swapped", path.display()));
            }
            for (sibling, _) in &victim.files {
                if sibling != path && sibling.extension() == path.extension() && sibling.extension().is_some() {
                    let damaged = victim.copy();
                    damaged.remove(path).unwrap();
                    let copy = damaged.open(path, OpenMode::CreateNew).unwrap();
                    copy.write_at(&victim.bytes(sibling), 0).unwrap();
                    drop(copy);
                    let damaged = damaged.reboot(Survival::All);
                    let torn_tail = path.to_string_lossy().ends_with(".log");
                    let context = format!("{} in place of {}", sibling.display(), path.display());
                    victim.check(&damaged, torn_tail, &context);
                }
            }
        }
    }
}

/// Writes that the disk acknowledges and loses, or puts elsewhere. The database was closed in order, so nothing is torn.
/// One case is left out: the last marker of the log written over the records before it looks like a torn tail.
#[test]
fn stray_writes_never_give_a_wrong_answer() {
    for trace in [trace::blobs(), trace::rotation(), random_trace(22, 40)] {
        let whole = SimDisk::new(1);
        run(&whole, &trace, OnError::GoOn);
        for call in (0..whole.mutating_calls()).step_by(3) {
            for (effect, file) in [
                (Effect::Ignore, "/db/"),
                (Effect::Misdirect(512), "/db/"),
                (Effect::Misdirect(-300), ".table"),
                (Effect::Misdirect(-300), "MANIFEST"),
            ] {
                let disk = SimDisk::new(1);
                disk.inject(Fault::new(effect).on(CallKind::Write).named(file).after(call));
                let history = run(&disk, &trace, OnError::GoOn);
                let context = format!("{}: {effect:?} of write {call} to {file}", trace.name);
                match Subject::open(&disk.reboot(Survival::All), trace.settings) {
                    Ok(engine) => match engine.content() {
                        Ok(found) => {
                            history.check_recovered(&found, &context);
                        }
                        Err(error) => assert!(is_typed(&error), "{context}: {error:?}"),
                    },
                    Err(error) => assert!(is_typed(&error), "{context}: {error:?}"),
                }
            }
        }
    }
}

#[test]
fn lesson_43_a_claimed_length_is_checked_before_it_is_allocated() {
    let mut random = Random::new(5);
    for victim in victims() {
        for (path, length) in &victim.files {
            for offset in offsets(*length, 100, &mut random) {
                for claim in [&[0xff_u8; 8][..], &[0xff, 0xff, 0xff, 0x7f], &[0, 0, 0, 0x40]] {
                    let damaged = victim.copy();
                    damaged.damage(path, offset, claim).unwrap();
                    let torn_tail = takes_the_marker(path, *length, offset + claim.len() as u64);
                    victim.check(&damaged, torn_tail, &format_args!("{} {claim:x?} at {offset}", path.display()));
                }
            }
        }
    }
    assert!(largest_bytes() < ALLOCATION_BYTES_MAX, "{} bytes were allocated at once", largest_bytes());
}
