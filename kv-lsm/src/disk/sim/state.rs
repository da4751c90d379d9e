//! Everything that a simulated disk is, behind one lock, and the gate that every call passes.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::locks::Locks;
use super::fault::{CallKind, Effect, Faults};
use super::inode::Inode;
use super::names::{InodeId, Names};
use super::pages::{PAGE_BYTES, Pages};
use super::random::Random;
use super::survival::{Lottery, Survival};

#[derive(Clone)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    pub(super) inodes_made: u64,
    /// The order of all unsynced changes, over files and names.
    pub(super) stamps_given: u64,
    pub(super) faults: Faults,
    pub(super) locks: Locks,
    /// Mutating calls so far.
    pub(super) calls: u64,
    /// What a power cut at each mutating call would leave, while that is being recorded.
    pub(super) moments: Option<Vec<State>>,
    /// Bytes of a file, and whether anybody has looked at them.
    pub(super) watched: Option<(InodeId, Range<u64>, bool)>,
    /// The call during which the power was cut.
    pub(super) cut_at: Option<(CallKind, PathBuf)>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) random: Random,
}

/// What the gate decided for a call.
enum Gate {
    Proceed,
    Fail(io::Error),
    FailHalfway(io::Error),
    PowerCut,
    Ignore,
    Misdirect(i64),
    ShortRead,
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

/// Paths are normal.
impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: Names::default(),
            inodes: BTreeMap::new(),
            inodes_made: 0,
            stamps_given: 0,
            faults: Faults::default(),
            locks: Locks::default(),
            calls: 0,
            moments: None,
            watched: None,
            cut_at: None,
            capacity_bytes: None,
            random: Random::new(seed),
        }
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.cut_at.is_some() { Err(power_is_off()) } else { Ok(()) }
    }

    fn pass(&mut self, kind: CallKind, path: &Path) -> io::Result<Gate> {
        self.check_power()?;
        if kind.mutates() {
            self.record_moment_with(|_| ());
            self.calls += 1;
        }
        let injected = |kind| io::Error::new(kind, "injected by the simulated disk");
        Ok(match self.faults.meet(kind, path) {
            None => Gate::Proceed,
            Some(Effect::Fail(error)) => Gate::Fail(injected(error)),
            Some(Effect::FailHalfway(error)) => Gate::FailHalfway(injected(error)),
            Some(Effect::Ignore) => Gate::Ignore,
            Some(Effect::Misdirect(by)) => Gate::Misdirect(by),
            Some(Effect::ShortRead) => Gate::ShortRead,
            Some(Effect::PowerCut) => {
                self.cut_at = Some((kind, path.to_path_buf()));
                Gate::PowerCut
            }
        })
    }

    /// Passes a call that either happens whole or not at all. Its `Ok` says whether `apply` ran.
    fn whole(&mut self, kind: CallKind, path: &Path, apply: impl FnOnce(&mut Self)) -> io::Result<bool> {
        match self.pass(kind, path)? {
            Gate::Fail(error) | Gate::FailHalfway(error) => Err(error),
            Gate::Ignore => Ok(false),
            Gate::PowerCut => {
                apply(self);
                Err(power_is_off())
            }
            Gate::Proceed | Gate::Misdirect(_) | Gate::ShortRead => {
                apply(self);
                Ok(true)
            }
        }
    }

    /// Keeps a copy of the disk as it is now, but for `change`, if that was asked for. What there is just before each call is
    /// all that matters: a change that the power cut meets is one that was made and not synced, as before the next call.
    fn record_moment_with(&mut self, change: impl FnOnce(&mut Self)) {
        if let Some(mut moments) = self.moments.take() {
            let mut moment = self.clone();
            change(&mut moment);
            moments.push(moment);
            self.moments = Some(moments);
        }
    }

    /// Notes that somebody looks at bytes of a file.
    pub(super) fn look(&mut self, inode: InodeId, bytes: &Range<u64>) {
        if let Some((watched, range, seen)) = &mut self.watched
            && *watched == inode
            && range.start < bytes.end
            && bytes.start < range.end
        {
            *seen = true;
        }
    }

    const fn stamp(&mut self) -> u64 {
        self.stamps_given += 1;
        self.stamps_given
    }

    pub(super) fn inode(&self, inode: InodeId) -> &Inode {
        self.inodes.get(&inode).expect("a named or open file is kept")
    }

    pub(super) fn inode_mut(&mut self, inode: InodeId) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a named or open file is kept")
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<InodeId> {
        match self.pass(CallKind::Open, path)? {
            Gate::Fail(error) | Gate::FailHalfway(error) => Err(error),
            Gate::PowerCut => Err(power_is_off()),
            _ => self.names.file(path),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        self.check_power()?;
        self.names.live().check_free(path)?;
        let inode = self.inodes_made;
        let create = |state: &mut Self| {
            state.inodes_made += 1;
            state.inodes.entry(inode).or_default().links = 1;
            let stamp = state.stamp();
            state.names.add(path.to_path_buf(), inode, stamp);
        };
        if !self.whole(CallKind::Create, path, create)? {
            create(self);
        }
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_power()?;
        self.names.live().check_rename(from, to)?;
        self.whole(CallKind::Rename, to, |state| {
            let stamp = state.stamp();
            let replaced = state.names.rename(from.to_path_buf(), to.to_path_buf(), stamp);
            if let Some(replaced) = replaced {
                state.inode_mut(replaced).links -= 1;
            }
        })?;
        Ok(())
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_power()?;
        let inode = self.names.file(from)?;
        self.names.live().check_free(to)?;
        self.whole(CallKind::Link, to, |state| {
            let stamp = state.stamp();
            state.names.add(to.to_path_buf(), inode, stamp);
            state.inode_mut(inode).links += 1;
        })?;
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.names.file(path)?;
        self.whole(CallKind::Remove, path, |state| {
            let stamp = state.stamp();
            let inode = state.names.remove(path.to_path_buf(), stamp);
            state.inode_mut(inode).links -= 1;
        })?;
        Ok(())
    }

    pub(super) fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        match self.pass(CallKind::List, directory)? {
            Gate::Fail(error) | Gate::FailHalfway(error) => Err(error),
            Gate::PowerCut => Err(power_is_off()),
            _ => self.names.live().list(directory),
        }
    }

    pub(super) fn create_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.check_power()?;
        self.names.live().check_directory(directory)?;
        match self.pass(CallKind::CreateDirectory, directory)? {
            Gate::Fail(error) | Gate::FailHalfway(error) => return Err(error),
            Gate::PowerCut => {
                let stamp = self.stamp();
                self.names.begin_directory(directory.to_path_buf(), stamp);
                return Err(power_is_off());
            }
            _ => {
                self.record_moment_with(|state| {
                    let stamp = state.stamp();
                    state.names.begin_directory(directory.to_path_buf(), stamp);
                });
                self.names.make_directory(directory);
            }
        }
        Ok(())
    }

    pub(super) fn rename_directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_power()?;
        self.names.live().check_rename_directory(from, to)?;
        match self.pass(CallKind::RenameDirectory, to)? {
            Gate::Fail(error) => return Err(error),
            // The new name is there, and whether it lasts is unknown.
            Gate::FailHalfway(error) => {
                let stamp = self.stamp();
                self.names.begin_rename_directory(from, to, stamp);
                return Err(error);
            }
            Gate::PowerCut => {
                let stamp = self.stamp();
                self.names.begin_rename_directory(from, to, stamp);
                return Err(power_is_off());
            }
            Gate::Ignore => {}
            Gate::Proceed | Gate::Misdirect(_) | Gate::ShortRead => self.names.rename_directory(from, to),
        }
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.check_power()?;
        self.names.live().check_is_directory(directory)?;
        match self.pass(CallKind::SyncDirectory, directory)? {
            Gate::Fail(error) => {
                self.names.sync_and_fail(directory, &mut Lottery::new(Survival::None));
                return Err(error);
            }
            Gate::FailHalfway(error) => {
                let seed = self.random.next();
                self.names.sync_and_fail(directory, &mut Lottery::new(Survival::Random(seed)));
                return Err(error);
            }
            Gate::PowerCut => return Err(power_is_off()),
            Gate::Ignore => {}
            Gate::Proceed | Gate::Misdirect(_) | Gate::ShortRead => self.names.sync(directory),
        }
        self.forget_lost_files();
        Ok(())
    }

    /// Files without names and handles are gone once no power cut can bring a name back.
    fn forget_lost_files(&mut self) {
        if self.inodes.values().any(|inode| inode.links == 0 && inode.handles == 0) {
            let named = self.names.named();
            self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
        }
    }

    pub(super) fn read(&mut self, inode: InodeId, path: &Path, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(inode, &(offset..offset.saturating_add(buffer.len() as u64)));
        match self.pass(CallKind::Read, path)? {
            Gate::Fail(error) | Gate::FailHalfway(error) => Err(error),
            Gate::PowerCut => Err(power_is_off()),
            Gate::ShortRead if buffer.len() > 1 => {
                let count = 1 + self.random.below(buffer.len() as u64 - 1);
                let count = usize::try_from(count).expect("below the length of the buffer");
                Ok(self.inode(inode).live().read(&mut buffer[..count], offset))
            }
            _ => Ok(self.inode(inode).live().read(buffer, offset)),
        }
    }

    pub(super) fn write(&mut self, inode: InodeId, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        Pages::check_length(offset.saturating_add(bytes.len() as u64))?;
        match self.pass(CallKind::Write, path)? {
            Gate::Proceed | Gate::ShortRead => self.put(inode, bytes, offset),
            Gate::Fail(error) => Err(error),
            Gate::FailHalfway(error) => {
                // Now and then everything was written, and only the good news got lost.
                let all = self.random.chance(2);
                let count = if all { bytes.len() as u64 } else { self.random.below(bytes.len() as u64 + 1) };
                self.put(inode, &bytes[..usize::try_from(count).expect("not above the length of a slice")], offset)?;
                Err(error)
            }
            Gate::PowerCut => {
                self.put(inode, bytes, offset)?;
                Err(power_is_off())
            }
            Gate::Ignore => Ok(()),
            Gate::Misdirect(by) => {
                let elsewhere = offset.saturating_add_signed(by);
                Pages::check_length(elsewhere.saturating_add(bytes.len() as u64))?;
                self.put(inode, bytes, elsewhere)
            }
        }
    }

    /// Writes in two parts: each byte of a store arrives by itself, so that a power cut, and the death of the process, may come
    /// between any two of them. What is in a sector by then may be on the platter.
    pub(super) fn store(&mut self, inode: InodeId, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        Pages::check_length(offset.saturating_add(bytes.len() as u64))?;
        let count = self.random.below(bytes.len() as u64 + 1);
        let (first, second) = bytes.split_at(usize::try_from(count).expect("not above the length of a slice"));
        for (part, offset) in [(first, offset), (second, offset + count)] {
            if !part.is_empty() {
                self.write(inode, path, part, offset)?;
            }
        }
        Ok(())
    }

    /// Writes as far as there is room.
    fn put(&mut self, inode: InodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut fitting = bytes;
        if let Some(mut free) = self.free_pages() {
            let end = offset + bytes.len() as u64;
            let mut fits = offset;
            while fits < end {
                let next = (fits / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64;
                match free.checked_sub(self.inode(inode).live().missing(fits, next)) {
                    Some(left) => free = left,
                    None => break,
                }
                fits = next.min(end);
            }
            fitting = &bytes[..usize::try_from(fits - offset).expect("not above the length of a slice")];
        }
        let stamp = self.stamp();
        self.inode_mut(inode).write(fitting, offset, stamp);
        if fitting.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// How many more pages fit, when there is a limit.
    fn free_pages(&self) -> Option<u64> {
        let capacity = self.capacity_bytes? / PAGE_BYTES as u64;
        let in_use = self.inodes.values().filter(|inode| inode.links > 0 || inode.handles > 0);
        Some(capacity.saturating_sub(in_use.map(|inode| inode.live().allocated()).sum()))
    }

    pub(super) fn sync(&mut self, inode: InodeId, path: &Path) -> io::Result<()> {
        match self.pass(CallKind::Sync, path)? {
            Gate::Proceed | Gate::Misdirect(_) | Gate::ShortRead => {
                self.inode_mut(inode).sync();
                Ok(())
            }
            Gate::Fail(error) => {
                self.inode_mut(inode).sync_and_fail(&mut Lottery::new(Survival::None));
                Err(error)
            }
            Gate::FailHalfway(error) => {
                let seed = self.random.next();
                self.inode_mut(inode).sync_and_fail(&mut Lottery::new(Survival::Random(seed)));
                Err(error)
            }
            Gate::PowerCut => Err(power_is_off()),
            Gate::Ignore => Ok(()),
        }
    }

    pub(super) fn truncate(&mut self, inode: InodeId, path: &Path, length: u64) -> io::Result<()> {
        Pages::check_length(length)?;
        self.whole(CallKind::Truncate, path, |state| {
            let stamp = state.stamp();
            state.inode_mut(inode).truncate(length, stamp);
        })?;
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: InodeId, path: &Path, length: u64) -> io::Result<()> {
        Pages::check_length(length)?;
        self.check_power()?;
        if self.free_pages().is_some_and(|free| free < self.inode(inode).live().missing(0, length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.whole(CallKind::Allocate, path, |state| {
            let stamp = state.stamp();
            state.inode_mut(inode).allocate(length, stamp);
        })?;
        Ok(())
    }
}
