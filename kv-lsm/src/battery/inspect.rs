//! Looks at what a power cut or the death of a process left behind.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use kv_core::time::Millis;

use super::clock;
use super::content::Content;
use super::history::History;
use super::manifest_loss::repair_without_manifest;
use super::random::Random;
use super::settings::Settings;
use super::subject::{DIRECTORY, Subject};
use super::trace::batch;
use crate::disk::{Disk, SimDisk, Survival};
use crate::error::Error;
use crate::options::Durability;

/// Checks disks that were left by power cuts, each different one once.
#[derive(Debug, Default)]
pub struct Inspector {
    settings: Settings,
    seen: HashSet<(u64, (usize, usize))>,
    seen_settled: HashSet<(u64, (usize, usize))>,
    /// Hashes of the different disks that were opened.
    pub images: HashSet<u64>,
    /// How many disks were opened.
    pub states: u64,
}

impl Inspector {
    /// For disks of databases with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Forgets which histories it saw, for another trace.
    pub fn begin(&mut self, settings: Settings) {
        self.settings = settings;
        self.seen.clear();
        self.seen_settled.clear();
    }

    /// Opens a disk that a power cut left and checks everything that must hold then. Returns whether it was a new one.
    ///
    /// # Panics
    /// When something does not.
    pub fn check(&mut self, disk: &SimDisk, history: &History, context: &dyn fmt::Display) -> bool {
        let hash = disk.durable_hash();
        if !self.seen.insert((hash, history.extent())) {
            return false;
        }
        self.images.insert(hash);
        self.check_alive(disk, history, context);
        true
    }

    /// Checks a disk on which nothing survived that was not synced, after a step and before the next: what is there is what
    /// the engine called durable, no less, and (rule E3) no more, since nothing may be durable that its number does not
    /// cover. A number that lags behind would also keep hosts waiting that answer by it (rule E17).
    ///
    /// # Panics
    /// When it is not.
    pub fn check_settled(&mut self, disk: &SimDisk, history: &History, context: &dyn fmt::Display) {
        if !self.seen_settled.insert((disk.durable_hash(), history.extent())) {
            return;
        }
        self.states += 1;
        let (_, found) = open_and_check(disk, self.settings, history, context);
        assert_eq!(
            history.allowed()[0].difference(&found),
            Vec::<String>::new(),
            "{context}: more is durable than the engine says (rule E3)"
        );
    }

    /// The same for a disk whose power was not cut, so that its cache holds more than its durable image tells.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check_alive(&mut self, disk: &SimDisk, history: &History, context: &dyn fmt::Display) {
        self.states += 1;
        check_checkpoints(disk, self.settings, history, self.states.is_multiple_of(8), context);
        if self.states % 4 == 1 {
            check_unopened(disk, self.settings, history, context);
        }
        let (subject, found) = open_and_check(disk, self.settings, history, context);
        subject.assert_sound(context);
        // What recovery showed is durable: another power cut, before anything else happens, changes nothing.
        let cut_again = disk.reboot(Survival::None);
        let same = History::starting_with(found);
        drop(subject);
        if self.states % 16 == 7 {
            // The power stays on: files that went before a directory sync that failed could come back with a power cut, and only
            // the manifest tells that they are not wanted.
            let lost = disk.restart();
            let context = format_args!("{context}, and the manifest lost");
            repair_without_manifest(&lost, self.settings, &context);
            open_and_check(&lost, self.settings, &same, &context);
        }
        // Every other time the process restarts instead.
        let (other, how) =
            if self.states.is_multiple_of(2) { (disk, "opened twice") } else { (&cut_again, "cut again") };
        let (subject, _) = open_and_check(other, self.settings, &same, &format_args!("{context}, {how}"));
        if !self.states.is_multiple_of(4) {
            return;
        }
        // And it goes on as a database does.
        let mut history = same;
        let more = batch(9999, 50);
        subject
            .write(&more, Durability::Sync)
            .unwrap_or_else(|error| panic!("{context}: write after recovery: {error}"));
        history.acknowledge(&more, true);
        let cut_again = other.reboot(Survival::None);
        let context = format_args!("{context}, written after recovery");
        let (subject, state) = open_and_check(&cut_again, self.settings, &history, &context);
        check_later(&subject, state, &context);
    }
}

/// What a power cut left is no damage, and can be read by who does not change it.
fn check_unopened(disk: &SimDisk, settings: Settings, history: &History, context: &dyn fmt::Display) {
    let directory = Path::new(DIRECTORY);
    let calls = disk.mutating_calls();
    match settings.builder(directory).disk(disk.clone()).verify_files(|_| {}) {
        Ok(report) => assert!(report.is_sound(), "{context}, before it is opened: {:?}", report.problems),
        Err(Error::NoDatabase { .. }) => {}
        Err(error) => panic!("{context}: its files cannot be verified: {error}"),
    }
    let subject = Subject::open_read_only(directory, disk, settings);
    if let Some(subject) = subject.unwrap_or_else(|error| panic!("{context}: reading only: {error}")) {
        let found = subject.content().unwrap_or_else(|error| panic!("{context}: reading only: {error}"));
        history.check_recovered(&found, &format_args!("{context}, reading only"));
    }
    assert_eq!(disk.mutating_calls(), calls, "{context}: something was written by who only reads");
}

/// Time passes, and what has expired is gone: at once, and after all work that it gives.
fn check_later(subject: &Subject, mut state: Content, context: &dyn fmt::Display) {
    let before = clock::now();
    clock::advance(Millis(25));
    state.advance(clock::now());
    for when in ["later", "after the work that is due later"] {
        let found = subject.content().unwrap_or_else(|error| panic!("{context}, {when}: {error}"));
        assert_eq!(state.difference(&found), Vec::<String>::new(), "{context}, {when}");
        let work = (0..100).try_for_each(|_| subject.database.step().map(drop));
        work.unwrap_or_else(|error| panic!("{context}, {when}: {error}"));
    }
    clock::set(before);
}

fn open_and_check(
    disk: &SimDisk,
    settings: Settings,
    history: &History,
    context: &dyn fmt::Display,
) -> (Subject, Content) {
    let subject = Subject::open(disk, settings).unwrap_or_else(|error| panic!("{context}: cannot be opened: {error}"));
    let found = subject.content().unwrap_or_else(|error| panic!("{context}: cannot be read: {error}"));
    let state = history.check_recovered(&found, context);
    (subject, Content::clone(&history.allowed()[state]))
}

/// Rule E8: a checkpoint is there whole, or not at all, and it is there once it was acknowledged. With `all` those that were
/// finished long ago are opened too.
fn check_checkpoints(disk: &SimDisk, settings: Settings, history: &History, all: bool, context: &dyn fmt::Display) {
    for (path, content, made) in history.checkpoints().filter(|(_, _, made)| all || !made) {
        let context = format_args!("{context}: {}", path.display());
        if disk.list(path).is_err() {
            assert!(!made, "{context} is missing");
            continue;
        }
        let subject = Subject::open_in(path, disk, settings).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = subject.content().unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(content.difference(&found), Vec::<String>::new(), "{context}");
    }
}

/// A few ways for a power cut to go, different for each `salt`: nothing survives, all does, and `samples` times chosen parts.
#[must_use]
pub fn survivals(disk: &SimDisk, salt: u64, samples: u64) -> Vec<Survival> {
    let mut random = Random::new(salt);
    let mut survivals = vec![Survival::None, Survival::All];
    let units = disk.unsynced_units();
    if units > 1 {
        for _ in 0..samples {
            survivals.push(Survival::AllBut(random.below(units)));
            survivals.push(Survival::Only(random.below(units)));
            survivals.push(Survival::Prefix(random.below(units)));
            survivals.push(Survival::Random(random.next()));
            survivals.push(Survival::Random(random.next()));
        }
    }
    survivals
}
