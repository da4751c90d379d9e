//! What all edits up to now add up to.

use std::collections::BTreeMap;

use kv_core::time::Millis;

use super::edit::{Edit, Item, KeyspaceRecord};
use crate::table::meta::TableMeta;

/// Levels of a keyspace: 0 takes what is flushed, the tables of each other level do not overlap.
pub(crate) const LEVELS: usize = 7;

/// The tables of one keyspace: level 0 newest first, the others by key.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub(crate) struct Levels(pub(crate) [Vec<TableMeta>; LEVELS]);

/// The state that the manifest describes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Catalog {
    pub(crate) keyspaces: BTreeMap<u32, KeyspaceRecord>,
    pub(crate) levels: BTreeMap<u32, Levels>,
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
                }
                Item::Removed { keyspace, level, number } => {
                    let level = self.level(*keyspace, *level)?;
                    let at = level.iter().position(|table| table.number == *number);
                    level.remove(at.ok_or_else(|| format!("table {number} removed but not there"))?);
                }
                Item::Log { segment, position, sequence } => {
                    if *segment < self.log_segment || *position < self.log_position || *sequence < self.flushed_sequence
                    {
                        return Err("the log went back".to_owned());
                    }
                    (self.log_segment, self.log_position, self.flushed_sequence) = (*segment, *position, *sequence);
                }
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
                }
                Item::Time(time) => self.time = self.time.max(*time),
            }
        }
        for item in &edit.0 {
            if let Item::Added { keyspace, level, table } = item {
                self.next_file = self.next_file.max(table.number.saturating_add(1));
                self.order(*keyspace, *level)?;
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

    pub(crate) fn tables(&self) -> impl Iterator<Item = &TableMeta> {
        self.levels.values().flat_map(|levels| levels.0.iter().flatten())
    }
}
