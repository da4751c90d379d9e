//! Reading a range of a pinned version, in one direction.

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::Arc;

use kv_core::time::Millis;

use crate::blob::files::BlobFiles;
use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::{Trailer, compare, split_expiry};
use crate::memtable::MemtableCursor;
use crate::merge_iter::{LevelCursor, MergeCursor};
use crate::range_delete::RangeDeletes;
use crate::table::cursor::TableCursor;
use crate::table::meta::TableMeta;
use crate::table::reader::Table;
use crate::value_cache::CachedValue;
use crate::version::{Tree, Version};
use crate::visible::{Operands, Resolver, ScanRules, Want};

/// After so many versions of one key that do not matter, the cursors seek instead of stepping.
const STEPS_BEFORE_SEEK: usize = 16;

/// The ends of a scan.
pub(crate) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Stands on one key and its value after the other.
pub(crate) struct Scan {
    rules: ScanRules,
    bounds: Bounds,
    reverse: bool,
    cursor: MergeCursor<Source>,
    range_deletes: Vec<Arc<RangeDeletes>>,
    /// Keeps the files that separated values lie in.
    tree: Option<Arc<Tree>>,
    state: State,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The value is that of the version on which the cursor stands, and was not copied.
    in_place: bool,
    /// That version's value, when it is a separated one.
    separated: Option<CachedValue>,
    expire_at: Option<Millis>,
    operands: Operands,
    /// The versions of a key as a backward walk meets them: oldest first.
    versions: Versions,
    /// The last place that the cursors were made to skip to.
    skipped: Option<(Vec<u8>, Trailer)>,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum State {
    New,
    Running,
    Over,
}

#[derive(Default)]
struct Versions {
    bytes: Vec<u8>,
    parts: Vec<(Trailer, Range<usize>)>,
}

impl Scan {
    /// # Errors
    /// When the deleted ranges of a table cannot be read.
    pub(crate) fn new(version: &Version, rules: ScanRules, bounds: Bounds, reverse: bool) -> Result<Self, Error> {
        let keyspace = rules.keyspace;
        let mut cursors = Vec::new();
        let mut range_deletes = Vec::new();
        for memtable in version.memtables() {
            cursors.push(Source::Memtable(MemtableCursor::new(memtable, keyspace)));
            range_deletes.extend(memtable.range_deletes(keyspace));
        }
        let tree = version.trees.get(&keyspace).cloned();
        if let Some(tree) = &tree {
            let in_range = |table: &&Arc<Table>| overlaps(table.meta(), &bounds);
            for table in tree.levels[0].iter().filter(in_range) {
                cursors.push(Source::Table(TableCursor::new(Arc::clone(table), true)));
            }
            for (level, tables) in tree.levels.iter().enumerate().skip(1) {
                let tables = LevelTables { tree: Arc::clone(tree), level, range: within(tables, &bounds) };
                if !tables.range.is_empty() {
                    cursors.push(Source::Level(LevelCursor::new(tables, true)));
                }
            }
            for table in tree.with_range_deletes().iter().filter(in_range) {
                range_deletes.extend(table.range_deletes()?);
            }
        }
        Ok(Self {
            rules,
            bounds,
            reverse,
            cursor: MergeCursor::new(cursors),
            range_deletes,
            tree,
            state: State::New,
            key: Vec::new(),
            value: Vec::new(),
            in_place: false,
            separated: None,
            expire_at: None,
            operands: Operands::default(),
            versions: Versions::default(),
            skipped: None,
        })
    }

    /// How much of each value it reads from now on.
    pub(crate) const fn set_want(&mut self, want: Want) {
        self.rules.want = want;
    }

    /// The key it stands on.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of that key.
    pub(crate) fn value(&self) -> &[u8] {
        match (&self.separated, self.cursor.entry()) {
            (Some(separated), _) => separated.bytes(),
            (None, Some(entry)) if self.in_place => entry.value,
            _ => &self.value,
        }
    }

    /// When that value expires.
    pub(crate) const fn expire_at(&self) -> Option<Millis> {
        self.expire_at
    }

    /// Goes to the next key that has a value; `false` at the end, and for ever after an error.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        let result = self.try_advance();
        if !matches!(result, Ok(true)) {
            self.state = State::Over;
        }
        result
    }

    fn try_advance(&mut self) -> Result<bool, Error> {
        match self.state {
            State::Over => return Ok(false),
            State::New => {
                self.state = State::Running;
                self.begin()?;
            }
            State::Running => {}
        }
        if std::mem::take(&mut self.in_place) {
            self.separated = None;
            self.leave_key()?;
        }
        loop {
            let Some(entry) = self.cursor.entry() else { return Ok(false) };
            if self.is_past_end(entry.key) {
                return Ok(false);
            }
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.expire_at = None;
            // What most keys are like, once more than in `forward_key`, but with all that it takes at hand.
            if !self.reverse && self.range_deletes.is_empty() {
                if self.rules.sees_plain(entry.trailer) {
                    self.in_place = true;
                    return Ok(true);
                }
                if entry.trailer.is_separated()
                    && self.rules.sees_plain(entry.trailer.with_separated(false))
                    && let Some(tree) = &self.tree
                {
                    self.separated = tree.blobs.cached(entry.key, entry.value)?;
                    if self.separated.is_some() {
                        self.in_place = true;
                        return Ok(true);
                    }
                }
            }
            self.value.clear();
            let has_value = if self.reverse { self.backward_key()? } else { self.forward_key()? };
            if has_value {
                return Ok(true);
            }
        }
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.reverse {
            self.cursor.seek_before(match &self.bounds.1 {
                Bound::Included(key) => Some((key, Trailer::OLDEST)),
                Bound::Excluded(key) => Some((key, Trailer::NEWEST)),
                Bound::Unbounded => None,
            })
        } else {
            match &self.bounds.0 {
                Bound::Included(key) => self.cursor.seek(key, Trailer::NEWEST),
                Bound::Excluded(key) => self.cursor.seek(key, Trailer::OLDEST),
                Bound::Unbounded => self.cursor.seek(&[], Trailer::NEWEST),
            }
        }
    }

    fn is_past_end(&self, key: &[u8]) -> bool {
        if self.reverse {
            match &self.bounds.0 {
                // The address of an empty key is no address. To compare with nothing that lies there takes a tenth of a
                // microsecond, when the C library does it with masked loads of 32 bytes.
                Bound::Included(start) if start.is_empty() => false,
                Bound::Included(start) => key < start.as_slice(),
                Bound::Excluded(start) => key <= start.as_slice(),
                Bound::Unbounded => false,
            }
        } else {
            match &self.bounds.1 {
                Bound::Included(end) => key > end.as_slice(),
                Bound::Excluded(end) => key >= end.as_slice(),
                Bound::Unbounded => false,
            }
        }
    }

    /// Goes behind the last version of the key.
    fn leave_key(&mut self) -> Result<(), Error> {
        let Self { cursor, tree, key, skipped, .. } = self;
        let blobs = tree.as_ref().map(|tree| &tree.blobs);
        // It stands on the one that is the value.
        cursor.next()?;
        let mut steps = 1;
        while cursor.place().is_some_and(|(next, _)| next == key.as_slice()) {
            steps += 1;
            if steps > STEPS_BEFORE_SEEK {
                go_on(skipped, key, Trailer::OLDEST, Ordering::Less, blobs)?;
                cursor.skip_to(key, Trailer::OLDEST)?;
                steps = 0;
            } else {
                cursor.next()?;
            }
        }
        Ok(())
    }

    /// Resolves the key that the cursor stands on, newest version first. The cursor is left behind its last version, or on the
    /// one that is its value.
    fn forward_key(&mut self) -> Result<bool, Error> {
        let Self { rules, cursor, range_deletes, tree, key, value, in_place, expire_at, operands, skipped, .. } = self;
        let blobs = tree.as_ref().map(|tree| &tree.blobs);
        let mut found = |bytes: &[u8]| value.extend_from_slice(bytes);
        let mut resolver = Resolver::new(rules.rules(), blobs, key, operands, &mut found);
        for ranges in range_deletes {
            resolver.cover(ranges.newest(key, rules.moment.sequence));
        }
        let (mut steps, mut over) = (0, false);
        while let Some(entry) = cursor.entry().filter(|entry| entry.key == key.as_slice()) {
            let too_new = entry.trailer.sequence() > rules.moment.sequence;
            if !too_new && !over {
                if resolver.is_plain(entry.trailer) {
                    *in_place = true;
                    return Ok(true);
                }
                over = resolver.add(entry.trailer, entry.value).is_break();
                if over && entry.trailer.is_expiring() {
                    *expire_at = split_expiry(entry.trailer, entry.value).0;
                }
                steps = 0;
            }
            steps += 1;
            if steps > STEPS_BEFORE_SEEK && (too_new || over) {
                let trailer = if over { Trailer::OLDEST } else { Trailer::at(rules.moment.sequence) };
                go_on(skipped, key, trailer, Ordering::Less, blobs)?;
                cursor.skip_to(key, trailer)?;
                steps = 0;
            } else {
                cursor.next()?;
            }
        }
        resolver.finish()
    }

    /// The same, with the versions coming oldest first.
    fn backward_key(&mut self) -> Result<bool, Error> {
        let Self { rules, cursor, range_deletes, tree, key, value, expire_at, operands, versions, skipped, .. } = self;
        let blobs = tree.as_ref().map(|tree| &tree.blobs);
        versions.bytes.clear();
        versions.parts.clear();
        while let Some(entry) = cursor.entry().filter(|entry| entry.key == key.as_slice()) {
            if entry.trailer.sequence() > rules.moment.sequence {
                // All that follow of this key are newer still.
                go_on(skipped, key, Trailer::NEWEST, Ordering::Greater, blobs)?;
                cursor.skip_before(key, Trailer::NEWEST)?;
                break;
            }
            let start = versions.bytes.len();
            versions.bytes.extend_from_slice(entry.value);
            versions.parts.push((entry.trailer, start..versions.bytes.len()));
            cursor.previous()?;
        }
        if let [(trailer, _)] = versions.parts[..]
            && range_deletes.is_empty()
            && rules.rules().is_plain(trailer)
        {
            std::mem::swap(value, &mut versions.bytes);
            return Ok(true);
        }
        let mut found = |bytes: &[u8]| value.extend_from_slice(bytes);
        let mut resolver = Resolver::new(rules.rules(), blobs, key, operands, &mut found);
        for ranges in range_deletes {
            resolver.cover(ranges.newest(key, rules.moment.sequence));
        }
        for (trailer, part) in versions.parts.iter().rev() {
            let stored = &versions.bytes[part.clone()];
            if resolver.is_decided() || resolver.add(*trailer, stored).is_break() {
                *expire_at = split_expiry(*trailer, stored).0;
                break;
            }
        }
        resolver.finish()
    }
}

/// Notes a place to skip to, which lies further on than the one before. In a damaged table whose checksums are right keys may
/// stand in any order: steps come to an end all the same, and skips because they never go back.
fn go_on(
    skipped: &mut Option<(Vec<u8>, Trailer)>,
    key: &[u8],
    trailer: Trailer,
    before: Ordering,
    blobs: Option<&BlobFiles>,
) -> Result<(), Error> {
    if let Some((last, last_trailer)) = skipped
        && compare((last, *last_trailer), (key, trailer)) != before
    {
        let directory = blobs.map_or(Path::new(""), |blobs| &blobs.directory);
        return Err(Error::corrupt(directory, 0, "expected tables with their keys in order"));
    }
    let (last, last_trailer) = skipped.get_or_insert_with(|| (Vec::new(), trailer));
    last.clear();
    last.extend_from_slice(key);
    *last_trailer = trailer;
    Ok(())
}

/// What a scan merges. Told apart without a table of functions, so that a step can be compiled as one.
enum Source {
    Memtable(MemtableCursor),
    Table(TableCursor),
    Level(LevelCursor<LevelTables>),
}

impl Cursor for Source {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Self::Memtable(cursor) => cursor.entry(),
            Self::Table(cursor) => cursor.entry(),
            Self::Level(cursor) => cursor.entry(),
        }
    }

    #[inline]
    fn place(&self) -> Option<(&[u8], Trailer)> {
        match self {
            Self::Memtable(cursor) => cursor.place(),
            Self::Table(cursor) => cursor.place(),
            Self::Level(cursor) => cursor.place(),
        }
    }

    #[inline]
    fn next_at_hand(&mut self) -> bool {
        match self {
            Self::Memtable(cursor) => cursor.next_at_hand(),
            Self::Table(cursor) => cursor.next_at_hand(),
            Self::Level(cursor) => cursor.next_at_hand(),
        }
    }

    #[inline]
    fn previous_at_hand(&mut self) -> bool {
        match self {
            Self::Memtable(cursor) => cursor.previous_at_hand(),
            Self::Table(cursor) => cursor.previous_at_hand(),
            Self::Level(cursor) => cursor.previous_at_hand(),
        }
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => cursor.seek(key, trailer),
            Self::Table(cursor) => cursor.seek(key, trailer),
            Self::Level(cursor) => cursor.seek(key, trailer),
        }
    }

    fn approach(&mut self, part: usize, key: &[u8], trailer: Trailer) {
        match self {
            Self::Memtable(cursor) => cursor.approach(part, key, trailer),
            Self::Table(cursor) => cursor.approach(part, key, trailer),
            Self::Level(cursor) => cursor.approach(part, key, trailer),
        }
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => cursor.seek_before(place),
            Self::Table(cursor) => cursor.seek_before(place),
            Self::Level(cursor) => cursor.seek_before(place),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => cursor.next(),
            Self::Table(cursor) => cursor.next(),
            Self::Level(cursor) => cursor.next(),
        }
    }

    #[inline]
    fn previous(&mut self) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => cursor.previous(),
            Self::Table(cursor) => cursor.previous(),
            Self::Level(cursor) => cursor.previous(),
        }
    }
}

/// Tables of one level that stand side by side, in a tree that is kept for them: there may be thousands.
struct LevelTables {
    tree: Arc<Tree>,
    level: usize,
    range: Range<usize>,
}

impl AsRef<[Arc<Table>]> for LevelTables {
    fn as_ref(&self) -> &[Arc<Table>] {
        &self.tree.levels[self.level][self.range.clone()]
    }
}

/// Which tables of a level, which do not overlap, speak of keys within the bounds.
fn within(tables: &[Arc<Table>], bounds: &Bounds) -> Range<usize> {
    let start = match &bounds.0 {
        Bound::Included(key) | Bound::Excluded(key) => {
            tables.partition_point(|table| table.meta().upper.is_before(key))
        }
        Bound::Unbounded => 0,
    };
    let end = match &bounds.1 {
        Bound::Included(key) => tables.partition_point(|table| *table.meta().lower <= **key),
        Bound::Excluded(key) => tables.partition_point(|table| *table.meta().lower < **key),
        Bound::Unbounded => tables.len(),
    };
    start..end.max(start)
}

fn overlaps(table: &TableMeta, bounds: &Bounds) -> bool {
    let starts_in_time = match &bounds.0 {
        Bound::Included(key) | Bound::Excluded(key) => !table.upper.is_before(key),
        Bound::Unbounded => true,
    };
    let ends_in_time = match &bounds.1 {
        Bound::Included(key) => *table.lower <= **key,
        Bound::Excluded(key) => *table.lower < **key,
        Bound::Unbounded => true,
    };
    starts_in_time && ends_in_time
}
