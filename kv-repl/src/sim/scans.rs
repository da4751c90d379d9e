//! A client that scans the tables of the other clients over and over, page by page at any node, and holds what it finds against what is
//! known of each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_core::key::{RecordKey, TableId};
use kv_core::record::Rule;

use super::clients::any_up;
use super::workload::forget;
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::{History, ReadBegun};
use crate::quorum::Consistency;
use crate::scan::position::Position;
use crate::scan::{Page, Scan};

/// How long one page may take to be looked for, in attempts.
const ATTEMPTS: usize = 50;

/// The client.
pub(super) struct Scanner {
    tables: Vec<(TableId, Rule)>,
    keys: Vec<RecordKey>,
    /// Which table is scanned.
    turn: usize,
    /// The cursor, as bytes that were handed out; nothing at the beginning of a table.
    cursor: Option<bytes::Bytes>,
    last: Option<RecordKey>,
    busy: Option<(u64, BTreeMap<RecordKey, ReadBegun>)>,
    /// Pages that were checked.
    pub(super) pages: u64,
    violations: Vec<String>,
}

impl Scanner {
    pub(super) fn new(tables: &[Arc<TableSchema>], keys: &[(RecordKey, Rule)]) -> Self {
        Self {
            tables: tables.iter().map(|table| (table.id, table.options.rule)).collect(),
            keys: keys.iter().map(|(key, _)| key.clone()).collect(),
            turn: 0,
            cursor: None,
            last: None,
            busy: None,
            pages: 0,
            violations: Vec::new(),
        }
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Looks for the page, or asks for the next one.
    pub(super) fn attend(&mut self, world: &mut World, history: &mut History) {
        let Some((request, begun)) = self.busy.take() else { return self.begin(world, history) };
        match world.take(request) {
            Answer::Pending => self.busy = Some((request, begun)),
            Answer::Scanned(Ok(page)) => self.check(world, history, &begun, page),
            // The cursor stays good.
            _ => {}
        }
    }

    /// Whether a page is waited for. Takes it when it is there.
    pub(super) fn drain(&mut self, world: &mut World, history: &mut History) -> bool {
        if self.busy.is_some() {
            self.attend(world, history);
        }
        self.busy.is_some()
    }

    fn begin(&mut self, world: &mut World, history: &History) {
        let Some((table, _)) = self.tables.get(self.turn).copied() else { return };
        let Some(node) = any_up(world) else { return };
        let position = match &self.cursor {
            None => Position::of_table(table),
            Some(cursor) => match Position::decode(cursor, table) {
                Ok(position) => position,
                Err(error) => return self.violations.push(format!("a cursor of a scan: {error}")),
            },
        };
        let ahead = self.keys.iter().filter(|key| key.table() == table && key.as_bytes() >= &position.from);
        let begun = ahead.map(|key| (key.clone(), history.read_begins(key, world.now_us()))).collect();
        let entries_max = world.random.usize(1..=4);
        let scan = Scan { position, entries_max, bytes_max: 1 << 20, consistency: Consistency::Quorum };
        self.busy = Some((world.scan(node, scan), begun));
    }

    /// Every key of a page is what a quorum read may see, and no key that has to be there was left out.
    fn check(&mut self, world: &World, history: &mut History, begun: &BTreeMap<RecordKey, ReadBegun>, page: Page) {
        self.pages += 1;
        let (table, rule) = self.tables[self.turn];
        let end = page.cursor.as_ref().and_then(|cursor| Position::decode(cursor, table).ok()).map(|next| next.from);
        let mut found = Vec::new();
        for entry in &page.entries {
            let key = RecordKey::new(table, &entry.key).expect("a key of the table");
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                self.violations.push(format!("a scan comes to {key:?} after {:?}", self.last));
            }
            match begun.get(&key) {
                Some(begun) => {
                    forget(world, history, begun);
                    history.read_ends(begun, rule, &entry.read);
                }
                None => {
                    self.violations.push(format!("a scan finds {key:?}, which lies behind it or was never written"));
                }
            }
            self.last = Some(key.clone());
            found.push(key);
        }
        for (key, begun) in begun {
            if end.as_ref().is_none_or(|end| key.as_bytes() < end) && !found.contains(key) {
                history.scan_missed(begun, rule);
            }
        }
        self.cursor = page.cursor;
        if self.cursor.is_none() {
            self.last = None;
            self.turn = (self.turn + 1) % self.tables.len();
        }
    }

    /// Everything is healed and nobody writes: a whole scan finds exactly what reads find. `is_there` says that of a key.
    pub(super) fn converge(
        &mut self,
        world: &mut World,
        history: &mut History,
        mut is_there: impl FnMut(&mut World, &RecordKey) -> Option<bool>,
    ) {
        (self.busy, self.cursor, self.last) = (None, None, None);
        for turn in 0..self.tables.len() {
            self.turn = turn;
            let table = self.tables[turn].0;
            let mut expected = Vec::new();
            for key in self.keys.iter().filter(|key| key.table() == table) {
                if is_there(world, key) == Some(true) {
                    expected.push(key.clone());
                }
            }
            expected.sort_unstable();
            match self.whole(world, history) {
                Some(found) if found == expected => {}
                Some(found) => self.violations.push(format!("a scan finds {found:?}, and reads find {expected:?}")),
                None => self.violations.push("liveness: a table cannot be scanned after healing".to_owned()),
            }
        }
    }

    fn whole(&mut self, world: &mut World, history: &mut History) -> Option<Vec<RecordKey>> {
        let table = self.tables[self.turn].0;
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            self.begin(world, history);
            let (request, begun) = self.busy.take()?;
            match world.finish(request) {
                Answer::Scanned(Ok(page)) => {
                    let turn = self.turn;
                    let keys = page.entries.iter().map(|entry| RecordKey::new(table, &entry.key));
                    found.extend(keys.filter_map(Result::ok));
                    self.check(world, history, &begun, page);
                    if self.cursor.is_none() {
                        self.turn = turn;
                        return Some(found);
                    }
                }
                _ => world.run_for(500_000),
            }
        }
        None
    }
}
