//! What a run of the battery counted and found.

use std::collections::{BTreeMap, HashSet};

use super::settings::Settings;

/// Counts by name, and violations. Several can be added up.
#[derive(Debug, Default)]
pub struct Report {
    counts: BTreeMap<String, u64>,
    /// Hashes of the different disks that were looked at.
    pub images: HashSet<u64>,
    /// The different settings that databases were opened with.
    pub settings: HashSet<Settings>,
    /// What went wrong, with the seed that shows it again.
    pub violations: Vec<String>,
}

impl Report {
    /// Adds to a count.
    pub fn count(&mut self, what: impl Into<String>, by: u64) {
        *self.counts.entry(what.into()).or_default() += by;
    }

    /// One count.
    #[must_use]
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Adds what another found.
    pub fn add(&mut self, other: Self) {
        for (what, by) in other.counts {
            self.count(what, by);
        }
        self.images.extend(other.images);
        self.settings.extend(other.settings);
        self.violations.extend(other.violations);
    }

    /// All counts as members of a JSON object, without the braces. Names are words and need no escapes.
    #[must_use]
    pub fn json_members(&self) -> String {
        let mut members: Vec<String> = self.counts.iter().map(|(what, count)| format!("\"{what}\":{count}")).collect();
        if !self.images.is_empty() {
            members.push(format!("\"images\":{}", self.images.len()));
        }
        members.push(format!("\"settings\":{}", self.settings.len()));
        members.push(format!("\"violations\":{}", self.violations.len()));
        members.join(",")
    }
}
