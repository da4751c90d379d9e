//! How much there is of what.

use kv_lsm::inspect::{Keyspace, Manifest, Table};
use serde_json::{Value, json};

use super::columns::Columns;
use super::report::{Report, bytes, count};

#[derive(Copy, Clone, Default)]
struct Totals {
    tables: u64,
    table_bytes: u64,
    entries: u64,
    deletes: u64,
    range_deletes: u64,
    expiring: u64,
    blob_files: u64,
    blob_bytes: u64,
    garbage_bytes: u64,
}

impl Totals {
    fn of(keyspace: &Keyspace) -> Self {
        let sum = |of: fn(&Table) -> u64| keyspace.levels.iter().flatten().map(of).sum();
        Self {
            tables: sum(|_| 1),
            table_bytes: sum(|table| table.bytes),
            entries: sum(|table| table.entries),
            deletes: sum(|table| table.deletes),
            range_deletes: sum(|table| table.range_deletes),
            expiring: sum(|table| table.expiring),
            blob_files: keyspace.blobs.len() as u64,
            blob_bytes: keyspace.blobs.iter().map(|blob| blob.bytes).sum(),
            garbage_bytes: keyspace.blobs.iter().map(|blob| blob.garbage_bytes).sum(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.tables += other.tables;
        self.table_bytes += other.table_bytes;
        self.entries += other.entries;
        self.deletes += other.deletes;
        self.range_deletes += other.range_deletes;
        self.expiring += other.expiring;
        self.blob_files += other.blob_files;
        self.blob_bytes += other.blob_bytes;
        self.garbage_bytes += other.garbage_bytes;
    }

    fn json(&self) -> Value {
        json!({
            "tables": self.tables, "table_bytes": self.table_bytes, "entries": self.entries, "deletes": self.deletes,
            "range_deletes": self.range_deletes, "expiring": self.expiring, "blob_files": self.blob_files,
            "blob_bytes": self.blob_bytes, "garbage_bytes": self.garbage_bytes,
        })
    }

    fn row(&self, name: &str) -> [String; 10] {
        [
            name.to_owned(),
            count(self.tables),
            bytes(self.table_bytes),
            count(self.entries),
            count(self.deletes),
            count(self.range_deletes),
            count(self.expiring),
            count(self.blob_files),
            bytes(self.blob_bytes),
            bytes(self.garbage_bytes),
        ]
    }
}

pub(super) fn report(manifest: &Manifest) -> Report {
    let mut total = Totals::default();
    let mut columns = Columns::new(&[
        "keyspace",
        ">tables",
        ">size",
        ">versions",
        ">deletes",
        ">ranges",
        ">expiring",
        ">blob files",
        ">size",
        ">garbage",
    ]);
    let mut keyspaces = Vec::new();
    for keyspace in &manifest.keyspaces {
        let totals = Totals::of(keyspace);
        total.add(&totals);
        columns.row(totals.row(&keyspace.name));
        let mut json = totals.json();
        json["name"] = json!(keyspace.name);
        keyspaces.push(json);
    }
    columns.row(total.row("all"));
    let (log_files, unneeded) = (manifest.log_files.len(), manifest.unneeded_files.len());
    let log_bytes: u64 = manifest.log_files.iter().map(|(_, bytes)| bytes).sum();
    let mut report = Report::new(json!({
        "keyspaces": keyspaces, "all": total.json(), "log_files": log_files, "log_bytes": log_bytes,
        "unneeded_files": unneeded, "flushed_sequence": manifest.flushed_sequence,
    }));
    report.columns(&columns);
    let flushed = count(manifest.flushed_sequence);
    report.line(&format!("log: {}, files: {log_files}; operations up to {flushed} are in tables", bytes(log_bytes)));
    if unneeded > 0 {
        report.line(&format!("files that nothing needs, and that go when the database is next opened: {unneeded}"));
    }
    report
}
