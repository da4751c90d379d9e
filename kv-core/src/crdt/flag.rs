//! Flags: false until they are enabled.

use super::dots::{Dots, store_as_its_field};
use super::dotted::{DotStore, Dotted};
use crate::version::{Dot, VersionVector};

/// A flag that is enabled when any of its latest concurrent writes enables it.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct EnableWinsFlag(Dots<bool>);

impl EnableWinsFlag {
    /// Whether it is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.iter().any(|(_, enabled)| *enabled)
    }

    /// The change that switches it on or off, in place of the writes that are held here.
    #[must_use]
    pub fn switch(&self, dot: Dot, enabled: bool) -> Dotted<Self> {
        self.0.put(dot, enabled, |_| true).map(Self)
    }

    /// The same in place of those that are held here and seen in `seen`; the others stand beside it.
    #[must_use]
    pub fn switch_seen(&self, dot: Dot, enabled: bool, seen: &VersionVector) -> Dotted<Self> {
        self.0.put_seen(dot, enabled, seen).map(Self)
    }
}

/// A flag that is disabled when any of its latest concurrent writes disables it.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct DisableWinsFlag(Dots<bool>);

impl DisableWinsFlag {
    /// Whether it is enabled: it was written, and none of the latest concurrent writes disables it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_live() && self.0.iter().all(|(_, enabled)| *enabled)
    }

    /// The change that switches it on or off, in place of the writes that are held here.
    #[must_use]
    pub fn switch(&self, dot: Dot, enabled: bool) -> Dotted<Self> {
        self.0.put(dot, enabled, |_| true).map(Self)
    }

    /// The same in place of those that are held here and seen in `seen`; the others stand beside it.
    #[must_use]
    pub fn switch_seen(&self, dot: Dot, enabled: bool, seen: &VersionVector) -> Dotted<Self> {
        self.0.put_seen(dot, enabled, seen).map(Self)
    }
}

store_as_its_field!(EnableWinsFlag);
store_as_its_field!(DisableWinsFlag);
