//! Everything that must hold inside one table, block by block.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blob::format::Pointer;
use crate::blob::meta::BlobUse;
use crate::error::Error;
use crate::internal_key::{Kind, Trailer, compare, split_expiry};
use crate::range_delete::RangeDelete;
use crate::table::describe::Description;
use crate::table::filter;
use crate::table::format::{FOOTER_BYTES, Properties};
use crate::table::meta::{TableMeta, Upper};
use crate::table::reader::Table;

/// What is counted while a table is read.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) blocks: u64,
    pub(crate) entries: u64,
    pub(crate) range_deletes: u64,
}

/// Reads all of a table. `problem` takes an offset in the file and what was expected there; of problems of one kind in one
/// block the first is told. `read` takes the bytes that were read. With `has_bounds` the table's meta knows its first and last
/// key.
///
/// # Errors
/// When what holds the table together (footer, index, filter, deleted ranges) cannot be read.
pub(crate) fn check(
    table: &Arc<Table>,
    description: &Description,
    has_bounds: bool,
    problem: &mut dyn FnMut(u64, String),
    read: &mut dyn FnMut(u64),
) -> Result<Counts, Error> {
    let mut check = Check {
        table,
        seen: Properties { keyspace: description.properties.keyspace, sequence_min: u64::MAX, ..Properties::default() },
        first: None,
        last: None,
        blocks: 0,
        all_read: true,
        blobs: BTreeMap::new(),
        problem,
    };
    let behind_blocks = check.blocks(read)?;
    let deletes = check.range_deletes(description)?;
    check.layout(description, behind_blocks);
    if check.all_read {
        check.totals(description);
        if has_bounds {
            check.bounds(description, &deletes);
        }
    }
    Ok(Counts { blocks: check.blocks, entries: check.seen.entries, range_deletes: check.seen.range_deletes })
}

struct Check<'a> {
    table: &'a Table,
    /// The properties as they come out of the blocks.
    seen: Properties,
    first: Option<Vec<u8>>,
    last: Option<(Vec<u8>, Trailer)>,
    blocks: u64,
    all_read: bool,
    /// How much of which blob file is pointed to.
    blobs: BTreeMap<u64, u64>,
    problem: &'a mut dyn FnMut(u64, String),
}

impl Check<'_> {
    /// Returns the offset behind the last data block.
    fn blocks(&mut self, read: &mut dyn FnMut(u64)) -> Result<u64, Error> {
        let mut expected_at = 0;
        let mut indexed: Option<(Vec<u8>, Trailer)> = None;
        for index in 0..self.table.blocks()? {
            let (key, trailer, handle) = self.table.index_entry(index)?;
            if handle.offset != expected_at {
                (self.problem)(handle.offset, format!("data block {index} at byte {expected_at}"));
            }
            expected_at = handle.offset.saturating_add(handle.length);
            if indexed.as_ref().is_some_and(|before| compare((&before.0, before.1), (&key, trailer)).is_ge()) {
                (self.problem)(handle.offset, format!("entry {index} of the index behind the one before"));
            }
            match self.table.block(index, false) {
                Ok(block) => {
                    let prefix = block.common_prefix();
                    let mut told = [false; 2];
                    for at in 0..block.count() {
                        let entry = block.entry(at);
                        let whole = [prefix, entry.key].concat();
                        self.entry(handle.offset, whole, entry.trailer, entry.value, &mut told)?;
                    }
                    self.blocks += 1;
                    if self.last.as_ref().is_none_or(|last| *last != (key.clone(), trailer)) {
                        (self.problem)(handle.offset, "a block that ends with the version that the index says".into());
                    }
                }
                Err(Error::Corrupt { offset, what, .. }) => {
                    self.all_read = false;
                    (self.problem)(offset, what);
                    self.last = Some((key.clone(), trailer));
                }
                Err(error) => {
                    self.all_read = false;
                    (self.problem)(handle.offset, error.to_string());
                    self.last = Some((key.clone(), trailer));
                }
            }
            indexed = Some((key, trailer));
            read(handle.length);
        }
        Ok(expected_at)
    }

    fn entry(
        &mut self,
        offset: u64,
        key: Vec<u8>,
        trailer: Trailer,
        value: &[u8],
        told: &mut [bool; 2],
    ) -> Result<(), Error> {
        let out_of_order = self.last.as_ref().is_some_and(|last| compare((&last.0, last.1), (&key, trailer)).is_ge());
        if out_of_order && !std::mem::replace(&mut told[0], true) {
            (self.problem)(offset, "versions in order, each once".to_owned());
        }
        let is_new_key = self.last.as_ref().is_none_or(|last| last.0 != key);
        let is_missed = is_new_key && !self.table.may_contain(filter::hash(&key))?;
        if is_missed && !std::mem::replace(&mut told[1], true) {
            (self.problem)(offset, "every key of the block in the filter".to_owned());
        }
        self.seen.entries += 1;
        self.seen.deletes += u64::from(trailer.kind() == Kind::Delete);
        self.seen.merges += u64::from(trailer.kind() == Kind::Merge);
        self.seen.key_value_bytes += (key.len() + value.len()) as u64;
        if trailer.is_separated() {
            match Pointer::decode(split_expiry(trailer, value).1) {
                Ok(pointer) => *self.blobs.entry(pointer.file).or_default() += u64::from(pointer.record_bytes),
                Err(error) => (self.problem)(offset, error.what.to_owned()),
            }
        }
        if let (Some(expire_at), _) = split_expiry(trailer, value) {
            self.seen.expiring.add(expire_at);
        }
        self.count(trailer.sequence());
        self.first.get_or_insert_with(|| key.clone());
        self.last = Some((key, trailer));
        Ok(())
    }

    fn count(&mut self, sequence: u64) {
        self.seen.sequence_min = self.seen.sequence_min.min(sequence);
        self.seen.sequence_max = self.seen.sequence_max.max(sequence);
    }

    fn range_deletes(&mut self, description: &Description) -> Result<Vec<RangeDelete>, Error> {
        let deletes = self.table.stored_range_deletes(description.footer.range_deletes)?;
        for delete in &deletes {
            if delete.start >= delete.end {
                (self.problem)(
                    description.footer.range_deletes.offset,
                    "deleted ranges that end behind their start".into(),
                );
            }
            self.seen.range_deletes += 1;
            self.count(delete.sequence);
        }
        Ok(deletes)
    }

    /// Nothing lies between the parts of the file.
    fn layout(&mut self, description: &Description, behind_blocks: u64) {
        let footer = &description.footer;
        let mut at = behind_blocks;
        for (what, handle) in [
            ("filter", footer.filter),
            ("deleted ranges", footer.range_deletes),
            ("index", footer.index),
            ("properties", footer.properties),
        ] {
            if handle.is_none() {
                continue;
            }
            if handle.offset != at {
                (self.problem)(handle.offset, format!("the block of the {what} at byte {at}"));
            }
            at = handle.offset.saturating_add(handle.length);
        }
        if at + FOOTER_BYTES as u64 != description.bytes {
            (self.problem)(at, "the footer behind the last block".to_owned());
        }
    }

    fn totals(&mut self, description: &Description) {
        let at = description.footer.properties.offset;
        let stated = &description.properties;
        let pairs = [
            ("entries", stated.entries, self.seen.entries),
            ("deletes", stated.deletes, self.seen.deletes),
            ("merges", stated.merges, self.seen.merges),
            ("deleted ranges", stated.range_deletes, self.seen.range_deletes),
            ("that expire", stated.expiring.entries, self.seen.expiring.entries),
            ("as earliest expiry", stated.expiring.earliest.0, self.seen.expiring.earliest.0),
            ("as latest expiry", stated.expiring.latest.0, self.seen.expiring.latest.0),
            ("bytes of keys and values", stated.key_value_bytes, self.seen.key_value_bytes),
            ("as lowest sequence number", stated.sequence_min, self.seen.sequence_min),
            ("as highest sequence number", stated.sequence_max, self.seen.sequence_max),
        ];
        for (what, stated, seen) in pairs {
            if stated != seen {
                (self.problem)(at, format!("{stated} {what}, as the properties say: there are {seen}"));
            }
        }
    }

    fn bounds(&mut self, description: &Description, deletes: &[RangeDelete]) {
        let meta = self.table.meta();
        let bounds = bounds(self.first.as_deref(), self.last.as_ref().map(|last| last.0.as_slice()), deletes);
        if bounds.is_none_or(|(lower, upper)| lower != meta.lower || upper != meta.upper) {
            (self.problem)(description.footer.index.offset, "the first and last key that the manifest says".to_owned());
        }
        let blobs = self.blobs.iter().map(|(&number, &bytes)| BlobUse { number, bytes });
        if !meta.blobs.iter().copied().eq(blobs) {
            (self.problem)(0, "pointers into the blob files that the manifest says, and of so many bytes".to_owned());
        }
    }
}

/// Which keys a table with these first and last ones, and these deleted ranges, speaks of; `None` when it says nothing.
pub(crate) fn bounds(first: Option<&[u8]>, last: Option<&[u8]>, deletes: &[RangeDelete]) -> Option<(Arc<[u8]>, Upper)> {
    let starts = deletes.iter().map(|delete| Arc::clone(&delete.start));
    let ends = deletes.iter().map(|delete| Upper { key: Arc::clone(&delete.end), inclusive: false });
    let last = last.map(|key| Upper { key: key.into(), inclusive: true });
    Some((starts.chain(first.map(Arc::from)).min()?, last.into_iter().chain(ends).reduce(Upper::max)?))
}

/// What the manifest says of a table and the table does not.
pub(crate) fn disagreements(keyspace: u32, meta: &TableMeta, description: &Description) -> Vec<String> {
    let properties = &description.properties;
    let mut problems = Vec::new();
    let pairs = [
        ("keyspace", u64::from(keyspace), u64::from(properties.keyspace)),
        ("identity", meta.identity, description.footer.identity),
        ("features", u64::from(meta.format.features), u64::from(description.footer.format.features)),
        ("entries", meta.entries, properties.entries),
        ("deletes", meta.deletes, properties.deletes),
        ("deleted ranges", meta.range_deletes, properties.range_deletes),
        ("expiring entries", meta.expiring.entries, properties.expiring.entries),
        ("earliest expiry", meta.expiring.earliest.0, properties.expiring.earliest.0),
        ("latest expiry", meta.expiring.latest.0, properties.expiring.latest.0),
        ("lowest sequence number", meta.sequence_min, properties.sequence_min),
        ("highest sequence number", meta.sequence_max, properties.sequence_max),
    ];
    for (what, named, stated) in pairs {
        if named != stated {
            problems.push(format!("{what} {named}, as the manifest says: the table says {stated}"));
        }
    }
    problems
}
