//! What all edits up to now add up to.

use std::collections::BTreeMap;

use kv_core::time::Millis;

use super::edit::{Edit, Item, KeyspaceRecord};
use crate::blob::meta::BlobMeta;
use crate::files::FileKind;
use crate::internal_key::SEQUENCE_MAX;
use crate::table::meta::TableMeta;

/// No file is as large, and there are not as many, so that sizes and numbers can be added up.
const SIZE_MAX: u64 = 1 << 48;

/// Levels of a keyspace: 0 takes what is flushed, the tables of each other level do not overlap.
pub(crate) const LEVELS: usize = 7;

/// The tables of one keyspace: level 0 newest first, the others by key.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub(crate) struct Levels(pub(crate) [Vec<TableMeta>; LEVELS]);

/// A blob file of a keyspace. How much of it is live follows from what the tables say they use.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct BlobRecord {
    pub(crate) keyspace: u32,
    pub(crate) blob: BlobMeta,
    pub(crate) live_bytes: u64,
}

/// The state that the manifest describes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Catalog {
    pub(crate) keyspaces: BTreeMap<u32, KeyspaceRecord>,
    pub(crate) levels: BTreeMap<u32, Levels>,
    pub(crate) blobs: BTreeMap<u64, BlobRecord>,
    /// The first segment of the log that is still needed, and the position of its first byte.
    pub(crate) log_segment: u64,
    pub(crate) log_position: u64,
    /// Everything up to this number is in tables.
    pub(crate) flushed_sequence: u64,
    pub(crate) next_file: u64,
    pub(crate) next_keyspace: u32,
    /// Reads have shown the world as it is at this time, or their consequences are in tables: none goes back before it.
    pub(crate) time: Millis,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            keyspaces: BTreeMap::new(),
            levels: BTreeMap::new(),
            blobs: BTreeMap::new(),
            log_segment: 0,
            log_position: 0,
            flushed_sequence: 0,
            next_file: 1,
            next_keyspace: kv_core::store::Space::RESERVED,
            time: Millis::ZERO,
        }
    }
}

impl Catalog {
    /// Applies an edit.
    ///
    /// # Errors
    /// What does not fit together. The catalog is then of no use.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        let mut usage = Usage::default();
        let mut blobs_removed = Vec::new();
        for item in &edit.0 {
            match item {
                Item::Keyspace(record) => {
                    let twice = self.keyspaces.values().any(|other| other.name == record.name);
                    if twice || self.keyspaces.insert(record.id, record.clone()).is_some() {
                        return Err(format!("keyspace {} {:?} created twice", record.id, record.name));
                    }
                    self.levels.insert(record.id, Levels::default());
                }
                Item::Added { keyspace, level, table } => {
                    self.level(*keyspace, *level)?.push(table.clone());
                    usage.gain(*keyspace, table);
                }
                Item::Removed { keyspace, level, number } => {
                    let level = self.level(*keyspace, *level)?;
                    let at = level.iter().position(|table| table.number == *number);
                    let table = level.remove(at.ok_or_else(|| format!("table {number} removed but not there"))?);
                    usage.lose(*keyspace, &table);
                }
                Item::Log { segment, position, sequence } => {
                    if [segment, position].into_iter().any(|&number| number > SIZE_MAX) || *sequence > SEQUENCE_MAX {
                        return Err("the log reaches further than any".to_owned());
                    }
                    if *segment < self.log_segment || *position < self.log_position || *sequence < self.flushed_sequence
                    {
                        return Err("the log went back".to_owned());
                    }
                    (self.log_segment, self.log_position, self.flushed_sequence) = (*segment, *position, *sequence);
                }
                Item::Next { file, .. } if *file > SIZE_MAX => return Err(format!("file number {file}")),
                Item::Next { file, keyspace } => {
                    self.next_file = self.next_file.max(*file);
                    self.next_keyspace = self.next_keyspace.max(*keyspace);
                }
                Item::Options { id, options } => {
                    let record = self.keyspaces.get_mut(id).ok_or_else(|| format!("unknown keyspace {id}"))?;
                    record.options = options.clone();
                }
                Item::Dropped { id } => {
                    self.keyspaces.remove(id).ok_or_else(|| format!("keyspace {id} dropped but not there"))?;
                    self.levels.remove(id);
                    self.blobs.retain(|_, record| record.keyspace != *id);
                }
                Item::Time(time) => self.time = self.time.max(*time),
                Item::BlobAdded { keyspace, blob } => {
                    if !self.levels.contains_key(keyspace) {
                        return Err(format!("unknown keyspace {keyspace}"));
                    }
                    let record = BlobRecord { keyspace: *keyspace, blob: *blob, live_bytes: 0 };
                    if self.blobs.insert(blob.number, record).is_some() {
                        return Err(format!("blob file {} added twice", blob.number));
                    }
                }
                Item::BlobRemoved { keyspace, number } => blobs_removed.push((*keyspace, *number)),
            }
        }
        usage.settle(&mut self.blobs)?;
        for (keyspace, number) in blobs_removed {
            let removed = self.blobs.remove(&number);
            if removed.is_none_or(|removed| removed.keyspace != keyspace || removed.live_bytes > 0) {
                return Err(format!("blob file {number} removed, but not there or in use"));
            }
        }
        self.check_added_once(edit)?;
        for item in &edit.0 {
            if let Item::Added { keyspace, level, table } = item {
                self.next_file = self.next_file.max(table.number.saturating_add(1));
                self.order(*keyspace, *level)?;
                if table.number > SIZE_MAX || table.bytes > SIZE_MAX || table.entries > SIZE_MAX {
                    return Err(format!("table {} is larger than any", table.number));
                }
                if table.sequence_max > self.flushed_sequence {
                    return Err(format!("table {} is newer than all that is in tables", table.number));
                }
            }
            if let Item::BlobAdded { blob, .. } = item {
                if blob.number > SIZE_MAX || blob.bytes > SIZE_MAX || blob.records > SIZE_MAX {
                    return Err(format!("blob file {} is larger than any", blob.number));
                }
                self.next_file = self.next_file.max(blob.number.saturating_add(1));
            }
        }
        Ok(())
    }

    /// A table that stood in two places would be removed when it left one of them.
    fn check_added_once(&self, edit: &Edit) -> Result<(), String> {
        let added = edit.0.iter().filter_map(|item| match item {
            Item::Added { table, .. } => Some((table.number, false)),
            _ => None,
        });
        let mut added: BTreeMap<u64, bool> = added.collect();
        for table in self.tables() {
            if added.get_mut(&table.number).is_some_and(|seen| std::mem::replace(seen, true)) {
                return Err(format!("table {} stands in two places", table.number));
            }
        }
        Ok(())
    }

    fn level(&mut self, keyspace: u32, level: usize) -> Result<&mut Vec<TableMeta>, String> {
        let levels = self.levels.get_mut(&keyspace).ok_or_else(|| format!("unknown keyspace {keyspace}"))?;
        levels.0.get_mut(level).ok_or_else(|| format!("unknown level {level}"))
    }

    /// Sorts a level and checks that its tables are as they must be.
    fn order(&mut self, keyspace: u32, level: usize) -> Result<(), String> {
        let tables = self.level(keyspace, level)?;
        if level == 0 {
            tables.sort_by(|a, b| b.sequence_max.cmp(&a.sequence_max).then(b.number.cmp(&a.number)));
        } else {
            tables.sort_by(|a, b| a.lower.cmp(&b.lower));
            if let Some(pair) = tables.windows(2).find(|pair| !pair[0].upper.is_before(&pair[1].lower)) {
                return Err(format!("tables {} and {} overlap on level {level}", pair[0].number, pair[1].number));
            }
        }
        Ok(())
    }

    /// The one edit that leads here from nothing.
    pub(crate) fn as_edit(&self) -> Edit {
        let mut items: Vec<Item> = self.keyspaces.values().cloned().map(Item::Keyspace).collect();
        let blobs = self.blobs.values();
        items.extend(blobs.map(|record| Item::BlobAdded { keyspace: record.keyspace, blob: record.blob }));
        for (&keyspace, levels) in &self.levels {
            for (level, tables) in levels.0.iter().enumerate() {
                items.extend(tables.iter().map(|table| Item::Added { keyspace, level, table: table.clone() }));
            }
        }
        items.push(Item::Log {
            segment: self.log_segment,
            position: self.log_position,
            sequence: self.flushed_sequence,
        });
        items.push(Item::Next { file: self.next_file, keyspace: self.next_keyspace });
        if self.time > Millis::ZERO {
            items.push(Item::Time(self.time));
        }
        Edit(items)
    }

    /// Whether there is, or ever was, a keyspace of this number.
    pub(crate) fn has_known(&self, keyspace: u32) -> bool {
        self.keyspaces.contains_key(&keyspace)
            || (kv_core::store::Space::RESERVED..self.next_keyspace).contains(&keyspace)
    }

    /// The blob files of a keyspace.
    pub(crate) fn blobs_of(&self, keyspace: u32) -> impl Iterator<Item = &BlobRecord> {
        self.blobs.values().filter(move |record| record.keyspace == keyspace)
    }

    /// The removal of the blob files that an edit takes the last use of.
    pub(crate) fn blobs_emptied_by(&self, edit: &Edit) -> Vec<Item> {
        let mut usage = Usage::default();
        for item in &edit.0 {
            match item {
                Item::Added { keyspace, table, .. } => usage.gain(*keyspace, table),
                Item::Removed { keyspace, level, number } => {
                    let level = self.levels.get(keyspace).and_then(|levels| levels.0.get(*level));
                    let table = level.into_iter().flatten().find(|table| table.number == *number);
                    table.into_iter().for_each(|table| usage.lose(*keyspace, table));
                }
                _ => {}
            }
        }
        let emptied = usage.0.iter().filter(|((_, number), (gained, lost))| {
            self.blobs.get(number).is_some_and(|record| record.live_bytes + gained == *lost)
        });
        emptied.map(|(&(keyspace, number), _)| Item::BlobRemoved { keyspace, number }).collect()
    }

    /// Whether it is a table, or a file of separated values, of the state.
    pub(crate) fn names(&self, file: FileKind) -> bool {
        match file {
            FileKind::Table(number) => self.tables().any(|table| table.number == number),
            FileKind::Blob(number) => self.blobs.contains_key(&number),
            _ => false,
        }
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &TableMeta> {
        self.levels.values().flat_map(|levels| levels.0.iter().flatten())
    }
}

/// What the tables of an edit bring and take of the use of blob files: by keyspace and number, bytes gained and lost.
#[derive(Default)]
struct Usage(BTreeMap<(u32, u64), (u64, u64)>);

impl Usage {
    fn gain(&mut self, keyspace: u32, table: &TableMeta) {
        for blob in &table.blobs {
            let gained = &mut self.0.entry((keyspace, blob.number)).or_default().0;
            *gained = gained.saturating_add(blob.bytes);
        }
    }

    fn lose(&mut self, keyspace: u32, table: &TableMeta) {
        for blob in &table.blobs {
            let lost = &mut self.0.entry((keyspace, blob.number)).or_default().1;
            *lost = lost.saturating_add(blob.bytes);
        }
    }

    /// Pointers resolve, and live bytes lie between zero and all of the file's.
    fn settle(self, blobs: &mut BTreeMap<u64, BlobRecord>) -> Result<(), String> {
        for ((keyspace, number), (gained, lost)) in self.0 {
            let record = blobs.get_mut(&number).filter(|record| record.keyspace == keyspace);
            let Some(record) = record else {
                return Err(format!(
                    "a table of keyspace {keyspace} points into blob file {number}, which is not there"
                ));
            };
            let live_bytes = record.live_bytes.saturating_add(gained).checked_sub(lost);
            match live_bytes.filter(|&live_bytes| live_bytes <= record.blob.record_bytes()) {
                Some(live_bytes) => record.live_bytes = live_bytes,
                None => return Err(format!("more of blob file {number} was used or given up than there is")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_format::FileFormat;
    use crate::keyspace_options::stored::StoredOptions;
    use crate::table::meta::{Expiring, Upper};

    fn added(level: usize, number: u64) -> Item {
        let table = TableMeta {
            number,
            identity: 1,
            format: FileFormat { version: 1, features: 0 },
            bytes: 100,
            entries: 1,
            deletes: 0,
            range_deletes: 0,
            expiring: Expiring::default(),
            sequence_min: 1,
            sequence_max: 1,
            lower: b"a"[..].into(),
            upper: Upper { key: b"b"[..].into(), inclusive: true },
            blobs: Vec::new(),
        };
        Item::Added { keyspace: 256, level, table }
    }

    /// Found by damaging manifests: the table was removed when it left one of its places.
    #[test]
    fn a_table_stands_in_one_place() {
        let mut catalog = Catalog::default();
        let record = KeyspaceRecord { id: 256, name: "k".to_owned(), options: StoredOptions::default() };
        let log = Item::Log { segment: 1, position: 0, sequence: 1 };
        catalog.apply(&Edit(vec![Item::Keyspace(record), log, added(0, 7)])).unwrap();
        let mut moved = catalog.clone();
        moved.apply(&Edit(vec![Item::Removed { keyspace: 256, level: 0, number: 7 }, added(3, 7)])).unwrap();
        assert!(catalog.clone().apply(&Edit(vec![added(3, 7)])).is_err(), "on two levels");
        assert!(catalog.apply(&Edit(vec![added(3, 8), added(4, 8)])).is_err(), "twice in one edit");
        assert!(moved.names(FileKind::Table(7)) && !moved.names(FileKind::Table(8)));
    }
}
