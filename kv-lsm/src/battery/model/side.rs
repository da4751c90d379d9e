//! One of the databases that are given the same operations.

use std::path::Path;

use super::super::content::Content;
use super::super::invariants::Invariants;
use super::super::manifest_loss::repair_without_manifest;
use super::super::settings::Settings;
use super::super::subject::{DIRECTORY, Subject};
use crate::disk::MemDisk;
use crate::iter::Iter;
use crate::snapshot::Snapshot;

/// One database.
pub(super) struct Side {
    pub(super) disk: MemDisk,
    pub(super) settings: Settings,
    /// `None` only while it is being opened.
    subject: Option<Subject>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) iterators: Vec<Iter>,
    invariants: Invariants,
}

impl Side {
    /// An empty database.
    pub(super) fn new(settings: Settings) -> Self {
        let mut side = Self {
            disk: MemDisk::new(),
            settings,
            subject: None,
            snapshots: Vec::new(),
            iterators: Vec::new(),
            invariants: Invariants::default(),
        };
        side.subject = Some(side.open());
        side
    }

    fn open(&self) -> Subject {
        Subject::open(&self.disk, self.settings).unwrap_or_else(|error| panic!("{:?}: {error}", self.settings))
    }

    pub(super) fn subject(&self) -> &Subject {
        self.subject.as_ref().expect("it is open")
    }

    pub(super) fn subject_mut(&mut self) -> &mut Subject {
        self.subject.as_mut().expect("it is open")
    }

    pub(super) fn check_invariants(&mut self) {
        let Self { subject, invariants, settings, .. } = self;
        invariants.check(&subject.as_ref().expect("it is open").database, *settings, &"model");
    }

    /// Closes the database and opens it again, after somebody who only reads has looked at it, and perhaps after its manifest
    /// was lost and made again.
    pub(super) fn reopen(&mut self, expected: &Content, lose_manifest: bool) {
        self.let_go();
        self.subject = None;
        self.check_read_only(Path::new(DIRECTORY), expected);
        if lose_manifest {
            // Recovery writes to tables what the log holds, and tables say what belongs where.
            drop(self.open());
            repair_without_manifest(&self.disk, self.settings, &format_args!("{:?}", self.settings));
        }
        let subject = self.open();
        subject.assert_sound(&format_args!("{:?}", self.settings));
        self.subject = Some(subject);
        self.invariants = Invariants::default();
    }

    /// Lets go of snapshots and iterators.
    pub(super) fn let_go(&mut self) {
        self.snapshots.clear();
        self.iterators.clear();
    }

    /// Opens the database that lies in a directory, and is not open, for reading only.
    pub(super) fn check_read_only(&self, directory: &Path, expected: &Content) {
        let subject = Subject::open_read_only(directory, &self.disk, self.settings);
        let subject = subject.and_then(|subject| subject.expect("it is there").content());
        let found = subject.unwrap_or_else(|error| panic!("reading only {}: {error}", directory.display()));
        let difference = expected.difference(&found);
        assert!(difference.is_empty(), "reading only {}: {difference:?}; {:?}", directory.display(), self.settings);
    }
}
