//! The manifest is lost, and the database is made again from its tables.

use std::fmt;
use std::path::Path;

use super::parts::Kind;
use super::settings::Settings;
use super::subject::DIRECTORY;
use crate::builder::IntoDisk;
use crate::disk::Disk;

/// Removes the manifests of a database that is closed, and whose log is empty as it is after an opening without a write, and
/// repairs it. Then tables tell everything, but for keyspaces without any, which are gone: nothing may be missing or back.
///
/// # Panics
/// When the repair fails, finds nothing wrong, or leaves something wrong.
pub fn repair_without_manifest<D: Disk + IntoDisk + Clone>(disk: &D, settings: Settings, context: &dyn fmt::Display) {
    let directory = Path::new(DIRECTORY);
    for name in disk.list(directory).expect("the database is there") {
        let path = directory.join(name);
        if Kind::of(&path) == Some(Kind::Manifest) {
            disk.remove(&path).expect("it was listed");
        }
    }
    let builder = || settings.builder(directory).disk(disk.clone());
    let report = builder().repair().unwrap_or_else(|error| panic!("{context}: repair: {error}"));
    assert!(report.manifest_lost && !report.problems.is_empty(), "{context}: {report:?}");
    let verified = builder().verify_files(|_| {}).unwrap_or_else(|error| panic!("{context}: after repair: {error}"));
    assert!(verified.is_sound(), "{context}: repaired: {:?}", verified.problems);
}
