//! One dot names one write: whatever travels under a dot must be the same version, always and everywhere.

use std::collections::BTreeMap;

use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::{Record, Version};
use kv_core::version::Dot;

/// Every version that was seen, by its name.
#[derive(Default, Debug)]
pub struct DotLedger {
    seen: BTreeMap<(RecordKey, Dot), Version>,
    violations: Vec<String>,
}

impl DotLedger {
    /// Holds a record's versions against those seen before.
    pub fn record(&mut self, key: &RecordKey, record: &Record) {
        for (dot, version) in record.versions() {
            let known = self.seen.entry((key.clone(), *dot)).or_insert_with(|| version.clone());
            if known != version {
                self.violations.push(format!("{dot:?} of {key:?} was minted twice: {known:?} and {version:?}"));
            }
        }
    }

    /// When a version that was seen was born.
    #[must_use]
    pub fn birth(&self, key: &RecordKey, dot: Dot) -> Option<Stamp> {
        self.seen.get(&(key.clone(), dot)).map(|version| version.birth)
    }

    /// What was wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}
