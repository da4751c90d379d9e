//! Every kind of file decays.
//!
//! What is read afterwards is right, a typed error, or, where the end of the log is gone, an earlier state that the log could
//! have torn back to. With the checksum made right again a wrong value cannot be told from a right one, and what remains is
//! that nothing panics, hangs, or takes memory for a length that is only claimed.

use std::fmt;
use std::path::{Path, PathBuf};

use super::drive::{OnError, run};
use super::generate::{Generator, random_trace};
use super::history::History;
use super::parts::{Kind, Part, parts};
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::{DIRECTORY, Subject};
use crate::disk::{Disk, OpenMode, SimDisk, Survival, read_exact_at};
use crate::error::Error;
use crate::options::Durability;

/// A database that was closed in order, what it holds, and its files.
struct Victim {
    disk: SimDisk,
    settings: Settings,
    /// What a log that lost its end may lead back to; the last state is what was there.
    history: History,
    files: Vec<VictimFile>,
}

struct VictimFile {
    path: PathBuf,
    kind: Kind,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

fn victim(seed: u64) -> Victim {
    let mut random = Random::new(seed ^ 0x726f_7473);
    let disk = SimDisk::new(1);
    let mut trace = random_trace(seed, 20 + random.below(30));
    // Files with several parts are what can be mixed up.
    trace.settings.memtable_bytes = trace.settings.memtable_bytes.max(4000);
    run(&disk, &trace, OnError::Stop);
    let subject = Subject::open(&disk, trace.settings).expect("nothing is wrong yet");
    let mut generator = Generator::new(random, 40, 60);
    for _ in 0..10 {
        subject.write(&generator.batch(), Durability::Buffered).expect("nothing is wrong yet");
    }
    subject.database.flush().expect("nothing is wrong yet");
    let mut history = History::starting_with(subject.content().expect("nothing is wrong yet"));
    for _ in 0..6 {
        let batch = generator.batch();
        subject.write(&batch, Durability::Sync).expect("nothing is wrong yet");
        history.acknowledge(&batch, false);
    }
    drop(subject);
    let disk = disk.reboot(Survival::All);
    let own = |path: &PathBuf| path.parent() == Some(Path::new(DIRECTORY));
    let files = disk.files().into_iter().map(|(path, _)| path).filter(own);
    let files = files.filter_map(|path| {
        let kind = Kind::of(&path)?;
        let file = disk.open(&path, OpenMode::Read).expect("it was listed");
        let mut bytes = vec![0; usize::try_from(file.len().expect("it was listed")).expect("a small file")];
        read_exact_at(&*file, &mut bytes, 0).expect("it was listed");
        let parts = parts(&path, &bytes);
        (!bytes.is_empty()).then_some(VictimFile { path, kind, bytes, parts })
    });
    let files = files.collect();
    Victim { disk, settings: trace.settings, history, files }
}

fn assert_typed(error: &Error, context: &dyn fmt::Display) {
    let typed = matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. });
    assert!(typed, "{context}: {error:?} does not say that the bytes are wrong");
}

/// What may be found.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Allowed {
    /// The right answer, or a typed error.
    Right,
    /// Also a state that a torn log leads back to.
    Torn,
    /// Anything but a panic.
    Anything,
}

/// Damage to one file.
struct Damage {
    what: &'static str,
    /// Its bytes from then on.
    bytes: Vec<u8>,
    /// Which of the old bytes are not what they were, at most.
    changed: std::ops::Range<usize>,
    sealed: bool,
}

impl VictimFile {
    /// An offset: anywhere, or near an end, where formats keep what matters most, or at the edge of a part.
    fn offset(&self, random: &mut Random) -> usize {
        let length = self.bytes.len();
        let near = random.index(64.min(length));
        match random.below(4) {
            0 => near,
            1 => length - 1 - near,
            2 if !self.parts.is_empty() => {
                let part = random.pick(&self.parts);
                (part.bytes.start + near % part.bytes.len().min(24)).min(length - 1)
            }
            _ => random.index(length),
        }
    }

    fn overwrite(&self, what: &'static str, at: usize, with: &[u8]) -> Damage {
        let mut bytes = self.bytes.clone();
        let end = (at + with.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
        Damage { what, bytes, changed: at..end, sealed: false }
    }

    /// Makes the checksums right again of the parts that were changed.
    fn seal(&self, mut damage: Damage) -> Damage {
        for part in &self.parts {
            let touched = part.bytes.start < damage.changed.end && damage.changed.start < part.bytes.end;
            if touched && part.bytes.end <= damage.bytes.len() {
                part.seal(&mut damage.bytes);
                damage.changed = damage.changed.start.min(part.bytes.start)..damage.changed.end.max(part.bytes.end);
                damage.sealed = true;
            }
        }
        damage
    }

    fn damage(&self, victim: &Victim, random: &mut Random) -> Damage {
        let at = self.offset(random);
        let damage = match random.below(10) {
            0..=2 => self.overwrite("flipped", at, &[self.bytes[at] ^ 1 << random.below(8)]),
            3 => {
                let length = random.pick(&[1, 4, 16, 512]);
                self.overwrite("zeroed", at, &vec![0; length])
            }
            4 => Damage {
                what: "truncated",
                bytes: self.bytes[..at].to_vec(),
                changed: at..self.bytes.len(),
                sealed: false,
            },
            5 => {
                let claim: &[u8] = random.pick(&[
                    &[0xff; 8][..],
                    &[0xff, 0xff, 0xff, 0x7f],
                    &[0, 0, 0, 0x40],
                    &[0xff, 0xff],
                    &[0xff, 0xff, 0xff, 0xff, 0x07],
                ]);
                self.overwrite("claimed", at, claim)
            }
            6..=8 => return self.swap(random).unwrap_or_else(|| self.overwrite("flipped", at, &[!self.bytes[at]])),
            _ => {
                // The content of a sibling under this name.
                let siblings: Vec<_> =
                    victim.files.iter().filter(|other| other.kind == self.kind && other.path != self.path).collect();
                match siblings.as_slice() {
                    [] => self.overwrite("zeroed", at, &[0; 64]),
                    siblings => Damage {
                        what: "replaced",
                        bytes: random.pick(siblings).bytes.clone(),
                        changed: 0..self.bytes.len(),
                        sealed: false,
                    },
                }
            }
        };
        let whole_length = damage.bytes.len() == self.bytes.len() && damage.what != "replaced";
        if whole_length && random.one_in(3) { self.seal(damage) } else { damage }
    }

    /// Two parts of one kind change places, of one length if there are such.
    fn swap(&self, random: &mut Random) -> Option<Damage> {
        if self.parts.is_empty() {
            return None;
        }
        let one = random.pick(&self.parts);
        let siblings: Vec<&Part> = self.parts.iter().filter(|other| one.is_sibling(other)).collect();
        let same: Vec<&Part> = siblings.iter().copied().filter(|other| other.bytes.len() == one.bytes.len()).collect();
        let other = if same.is_empty() {
            random.pick(siblings.get(..).filter(|all| !all.is_empty())?)
        } else {
            random.pick(&same)
        };
        let length = one.bytes.len().min(other.bytes.len());
        let mut bytes = self.bytes.clone();
        bytes[one.bytes.start..one.bytes.start + length]
            .copy_from_slice(&self.bytes[other.bytes.start..other.bytes.start + length]);
        bytes[other.bytes.start..other.bytes.start + length]
            .copy_from_slice(&self.bytes[one.bytes.start..one.bytes.start + length]);
        let changed =
            one.bytes.start.min(other.bytes.start)..(one.bytes.start + length).max(other.bytes.start + length);
        Some(Damage { what: "swapped", bytes, changed, sealed: false })
    }
}

impl Victim {
    /// A disk on which one file has other bytes, which are watched.
    fn damaged(&self, file: &VictimFile, damage: &Damage) -> SimDisk {
        let disk = self.disk.reboot(Survival::All);
        if damage.bytes.len() == file.bytes.len() {
            let changed = damage.changed.clone();
            let bytes = &damage.bytes[changed.clone()];
            disk.damage(&file.path, changed.start as u64, bytes).expect("the file is there");
        } else {
            let handle = disk.open(&file.path, OpenMode::ReadWrite).expect("the file is there");
            handle.truncate(0).and_then(|()| handle.write_at(&damage.bytes, 0)).expect("there is room");
        }
        let disk = disk.reboot(Survival::All);
        let changed = damage.changed.start as u64..damage.changed.end as u64;
        disk.watch(&file.path, changed).expect("the file is there");
        disk
    }

    fn check(&self, disk: &SimDisk, allowed: Allowed, context: &dyn fmt::Display) {
        let subject = match Subject::open(disk, self.settings) {
            Ok(subject) => subject,
            Err(_) if allowed == Allowed::Anything => return,
            Err(error) => return assert_typed(&error, context),
        };
        match allowed {
            Allowed::Anything => read_whatever_is_there(&subject),
            Allowed::Right => {
                let known = &self.history.allowed()[self.history.allowed().len() - 1..];
                // One unreadable block must not make another answer wrong.
                subject.check_while_reads_fail(known, &|error| assert_typed(error, context), context);
            }
            Allowed::Torn => match subject.content() {
                Ok(found) => {
                    self.history.check_recovered(&found, context);
                }
                Err(error) => assert_typed(&error, context),
            },
        }
    }
}

impl Victim {
    /// Whatever was damaged, a repair makes a database of the rest that is sound and can be read.
    fn check_repair(&self, file: &VictimFile, damage: &Damage, context: &dyn fmt::Display) {
        let disk = self.damaged(file, damage);
        let builder = || self.settings.builder(Path::new(DIRECTORY)).disk(disk.clone());
        match builder().repair() {
            Ok(_) => {}
            // A version or feature that is not known may well be meant.
            Err(Error::Unsupported { .. }) => return,
            Err(error) => panic!("{context}: repair: {error}"),
        }
        let subject = Subject::open(&disk, self.settings);
        let subject = subject.unwrap_or_else(|error| panic!("{context}, repaired: cannot be opened: {error}"));
        subject.assert_sound(&format_args!("{context}, repaired"));
        subject.content().unwrap_or_else(|error| panic!("{context}, repaired: cannot be read: {error}"));
    }
}

/// Nothing can be said about the answers, but there must be some.
fn read_whatever_is_there(subject: &Subject) {
    for keyspace in &subject.keyspaces {
        let keys: Vec<Vec<u8>> = keyspace.iter().map_while(Result::ok).map(|(key, _)| key.to_vec()).collect();
        let backward = keyspace.iter().rev().map_while(Result::ok).count();
        let found = keys.iter().filter(|key| matches!(keyspace.get(key), Ok(Some(_)))).count();
        // Not compared: with a checksum that was made right, a database may hold anything.
        std::hint::black_box((backward, found));
        let _ = keyspace.compact_range(..);
    }
}

/// One database, damaged in many ways, one at a time.
///
/// # Panics
/// When damage gives a wrong answer.
pub fn case(seed: u64, report: &mut Report) {
    let victim = victim(seed);
    report.settings.insert(victim.settings);
    let mut random = Random::new(seed ^ 0x6465_6361);
    for _ in 0..200 {
        // Each kind of file as often as any other, however few there are of it.
        let kinds: Vec<Kind> = [Kind::Log, Kind::Table, Kind::Manifest, Kind::Blob]
            .into_iter()
            .filter(|kind| victim.files.iter().any(|file| file.kind == *kind))
            .collect();
        let kind = random.pick(&kinds);
        let of_kind: Vec<&VictimFile> = victim.files.iter().filter(|file| file.kind == kind).collect();
        let file = random.pick(&of_kind);
        let damage = file.damage(&victim, &mut random);
        if damage.bytes == file.bytes {
            continue;
        }
        // The marker states that the log is durable to its end: without it, the record before looks torn.
        let is_log = kind == Kind::Log;
        let allowed = if damage.sealed {
            Allowed::Anything
        } else if is_log && damage.changed.end > file.parts.last().map_or(0, |marker| marker.bytes.start) {
            Allowed::Torn
        } else {
            Allowed::Right
        };
        let disk = victim.damaged(file, &damage);
        let sealed = if damage.sealed { "_and_sealed" } else { "" };
        let context = format!("{} {}{sealed} in {:?}", file.path.display(), damage.what, damage.changed);
        victim.check(&disk, allowed, &context);
        if allowed != Allowed::Anything && random.one_in(8) {
            victim.check_repair(file, &damage, &context);
            report.count("repairs", 1);
        }
        if disk.was_looked_at() {
            report.count("mutations", 1);
            report.count(format!("{}_{}{sealed}", kind.name(), damage.what), 1);
        } else {
            report.count("unseen", 1);
        }
    }
}
