//! Merging sorted input into new tables, keeping of each key what `fold` says.

use std::sync::Arc;

use super::fold::{FoldRules, KeyVersions, fold_key};
use super::outputs::Outputs;
use super::warm::WarmTable;
use crate::blob::meta::BlobMeta;
use crate::blob::separate::Separator;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::internal_key::Trailer;
use crate::manifest::edit::Item;
use crate::range_delete::{Fragment, RangeDelete, RangeDeletes};
use crate::table::meta::{TableMeta, Upper};
use crate::table::reader::Table;
use crate::table::writer::{Finished, TableWriter};
use crate::version::Tree;

/// The tables that are older than the input.
#[derive(Clone, Default)]
pub(crate) struct Older {
    /// Of level 0.
    pub(crate) loose: Vec<Arc<Table>>,
    /// Each without overlap.
    pub(crate) levels: Vec<Vec<Arc<Table>>>,
    /// There may be others, of any keys, that are still being written.
    pub(crate) others: bool,
}

impl Older {
    fn may_hold(&self, key: &[u8]) -> bool {
        self.others
            || self.loose.iter().any(|table| table.meta().contains(key))
            || self.levels.iter().any(|tables| Tree::table_for(tables, key).is_some())
    }

    fn may_hold_any(&self, start: &[u8], end: &Arc<[u8]>) -> bool {
        let end = Upper { key: Arc::clone(end), inclusive: false };
        self.others
            || self.loose.iter().chain(self.levels.iter().flatten()).any(|table| table.meta().overlaps(start, &end))
    }
}

/// One job.
pub(crate) struct Rewrite<'a> {
    pub(crate) rules: FoldRules,
    /// All deleted ranges of the input.
    pub(crate) range_deletes: RangeDeletes,
    pub(crate) older: Older,
    /// A new table is begun once one has grown to this, between two keys.
    pub(crate) table_bytes: u64,
    pub(crate) separator: Separator,
    pub(crate) outputs: Outputs<'a>,
    /// Asked now and then whether to give up.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// The files that came of a job, all of them synced, but for their names.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) tables: Vec<TableMeta>,
    pub(crate) blobs: Vec<BlobMeta>,
    /// Those of the tables of which blocks are in the cache.
    pub(crate) warm: Vec<WarmTable>,
}

impl Written {
    fn push(&mut self, Finished { meta, warm }: Finished) {
        self.tables.push(meta.clone());
        self.warm.extend(warm.map(|blocks| WarmTable { meta, blocks }));
    }

    /// The items of an edit that name the files, the tables on `level`.
    pub(crate) fn items(self, keyspace: u32, level: usize) -> Vec<Item> {
        let blobs = self.blobs.into_iter().map(|blob| Item::BlobAdded { keyspace, blob });
        blobs.chain(self.tables.into_iter().map(|table| Item::Added { keyspace, level, table })).collect()
    }
}

impl Rewrite<'_> {
    /// Writes the files. `None` when it was cancelled.
    ///
    /// # Errors
    /// The disk's, and corruption of the input. What was written is of no use then.
    pub(crate) fn run(mut self, cursor: &mut dyn Cursor) -> Result<Option<Written>, Error> {
        let fragments = self.kept_fragments();
        let mut written = Written::default();
        let mut writer: Option<TableWriter> = None;
        // Where the deleted ranges of the table being written begin.
        let mut from: Option<Vec<u8>> = None;
        let mut versions = KeyVersions::default();
        let mut key = Vec::new();
        let mut keys = 0_u32;
        cursor.seek(&[], Trailer::NEWEST)?;
        while let Some(entry) = cursor.entry() {
            keys = keys.wrapping_add(1);
            if keys.is_multiple_of(256) && (self.cancelled)() {
                return Ok(None);
            }
            // Each table is in order, so this is damage whose checksum fits: a table is not where the manifest says.
            if keys > 1 && entry.key <= key.as_slice() {
                return Err(Error::corrupt(
                    self.outputs.directory,
                    0,
                    "expected tables of one level that do not overlap",
                ));
            }
            key.clear();
            key.extend_from_slice(entry.key);
            versions.clear();
            while let Some(entry) = cursor.entry().filter(|entry| entry.key == key.as_slice()) {
                // Two of them hold the same version: damage whose checksum fits.
                if !versions.may_follow(entry.trailer) {
                    return Err(Error::corrupt(self.outputs.directory, 0, "expected each version in one table only"));
                }
                versions.push(entry.trailer, entry.value);
                cursor.next()?;
            }
            if let Some(full) = writer.take_if(|writer| writer.bytes() >= self.table_bytes) {
                (self.outputs.may_end)()?;
                written.push(finish(full, &fragments, from.as_deref(), Some(&key))?);
                from = Some(key.clone());
            }
            if self.rules.operator.is_some() && !sabotaged!(FoldOntoPointer) {
                versions.resolve(|pointer| self.separator.read(&key, pointer))?;
            }
            let Self { separator, outputs, rules, range_deletes, older, .. } = &mut self;
            let covering = range_deletes.covering(&key);
            let bottom = || !older.may_hold(&key);
            fold_key(&key, &versions, covering, rules, &bottom, &mut |trailer, value| {
                let (trailer, stored) = separator.place(&key, trailer, value, &mut || outputs.blob())?;
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(outputs.table()?),
                };
                writer.push(&key, trailer, stored)
            })?;
        }
        if writer.is_none() && fragments.iter().any(|fragment| from.as_deref().is_none_or(|from| *fragment.end > *from))
        {
            writer = Some(self.outputs.table()?);
        }
        if let Some(last) = writer {
            (self.outputs.may_end)()?;
            written.push(finish(last, &fragments, from.as_deref(), None)?);
        }
        written.blobs = self.separator.finish()?;
        Ok(Some(written))
    }

    /// Of the deletes that cover a fragment, the newest of each interval says it all, and those that nothing older lies
    /// under say nothing.
    fn kept_fragments(&self) -> Vec<Fragment> {
        let mut kept = Vec::new();
        for fragment in self.range_deletes.fragments() {
            let bottom = !self.older.may_hold_any(&fragment.start, &fragment.end);
            let mut sequences = fragment.sequences.clone();
            sequences.dedup_by_key(|&mut sequence| self.rules.interval(sequence));
            sequences.retain(|&sequence| !bottom || self.rules.interval(sequence) > 0);
            if !sequences.is_empty() {
                kept.push(Fragment { sequences, ..fragment.clone() });
            }
        }
        kept
    }
}

/// Adds the parts of deleted ranges that lie between the table's neighbours, so that tables of a level stay disjoint.
fn finish(
    mut writer: TableWriter,
    fragments: &[Fragment],
    from: Option<&[u8]>,
    until: Option<&[u8]>,
) -> Result<Finished, Error> {
    for fragment in fragments {
        let start = from.filter(|&from| *fragment.start < *from).map_or_else(|| Arc::clone(&fragment.start), Arc::from);
        let end = until.filter(|&until| *until < *fragment.end).map_or_else(|| Arc::clone(&fragment.end), Arc::from);
        if start < end {
            for &sequence in &fragment.sequences {
                writer.push_range_delete(RangeDelete { start: Arc::clone(&start), end: Arc::clone(&end), sequence });
            }
        }
    }
    writer.finish()
}
