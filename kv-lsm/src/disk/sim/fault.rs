//! What can be made to go wrong on a simulated disk.

use std::io;
use std::path::Path;

/// The calls of a disk and its files, as faults tell them apart.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum CallKind {
    /// Opening a file that exists.
    Open,
    /// Creating a file, by opening or by locking it.
    Create,
    /// Renaming.
    Rename,
    /// Linking.
    Link,
    /// Removing.
    Remove,
    /// Listing a directory.
    List,
    /// Making a directory.
    CreateDirectory,
    /// Renaming a directory.
    RenameDirectory,
    /// Syncing a directory.
    SyncDirectory,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Changing the length of a file.
    Truncate,
    /// Reserving room for a file.
    Allocate,
}

impl CallKind {
    /// Whether a call of this kind changes what is on the disk, or what of it is durable.
    #[must_use]
    pub const fn mutates(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::Read)
    }
}

/// What a fault does to the call that it meets.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Effect {
    /// The call fails and does nothing. A failed sync marks what it should have written as clean: it stays readable,
    /// and no later sync makes it durable unless it is written again.
    Fail(io::ErrorKind),
    /// The call fails half done: of a write a part, from its start (at times all), of a sync a random subset. All else as with
    /// [`Effect::Fail`].
    FailHalfway(io::ErrorKind),
    /// The power is cut during the call: what it did is unsynced, and every later call fails. See
    /// [`SimDisk::reboot`](super::SimDisk::reboot).
    PowerCut,
    /// The call reports success and does nothing: a lost write, or a sync that lies. Creating is not affected.
    Ignore,
    /// A write reports success and goes elsewhere in the same file, so many bytes further on, or back, as far as the
    /// start of the file. Other calls are not affected.
    Misdirect(i64),
    /// A read returns fewer bytes than there are, at least one. Other calls are not affected.
    ShortRead,
}

/// A fault: which calls it waits for, and what it does to them.
///
/// Without [`Fault::on`] it waits for any call that mutates.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    kind: Option<CallKind>,
    name: Option<String>,
    skip: u64,
    for_ever: bool,
}

impl Fault {
    /// A fault at the next mutating call, once.
    #[must_use]
    pub const fn new(effect: Effect) -> Self {
        Self { effect, kind: None, name: None, skip: 0, for_ever: false }
    }

    /// Only calls of that kind.
    #[must_use]
    pub const fn on(mut self, kind: CallKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only calls whose path, as it was when the file was opened, contains `part`.
    #[must_use]
    pub fn named(mut self, part: impl Into<String>) -> Self {
        self.name = Some(part.into());
        self
    }

    /// Lets that many matching calls pass first.
    #[must_use]
    pub const fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Every matching call from then on, not only one.
    #[must_use]
    pub const fn for_ever(mut self) -> Self {
        self.for_ever = true;
        self
    }
}

/// The faults that still wait for their call.
#[derive(Clone, Default)]
pub(super) struct Faults {
    waiting: Vec<Fault>,
    /// How many calls met one.
    met: u64,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// What happens to this call. When several faults meet it, the one added first wins and the others count it.
    pub(super) fn meet(&mut self, kind: CallKind, path: &Path) -> Option<Effect> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut effect = None;
        self.waiting.retain_mut(|fault| {
            let matches = fault.kind.map_or(kind.mutates(), |wanted| wanted == kind)
                && fault.name.as_ref().is_none_or(|part| path.to_string_lossy().contains(part.as_str()));
            if !matches {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            if effect.is_some() {
                return true;
            }
            effect = Some(fault.effect);
            fault.for_ever
        });
        self.met += u64::from(effect.is_some());
        effect
    }

    pub(super) const fn met(&self) -> u64 {
        self.met
    }
}
