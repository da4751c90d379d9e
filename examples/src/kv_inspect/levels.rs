//! The tables of every level.

use kv_lsm::inspect::{Manifest, Table, UpperKey};
use serde_json::{Value, json};

use super::columns::Columns;
use super::report::{Report, bytes, count, key, short_key};

pub(super) fn report(manifest: &Manifest) -> Report {
    let mut keyspaces = Vec::new();
    let mut sections = Vec::new();
    for keyspace in &manifest.keyspaces {
        let mut columns = Columns::new(&[
            ">level",
            ">table",
            ">size",
            ">versions",
            ">deletes",
            ">ranges",
            ">expiring",
            ">numbers",
            "from key",
            "to key",
        ]);
        let mut levels = Vec::new();
        for (level, tables) in keyspace.levels.iter().enumerate() {
            tables.iter().for_each(|table| columns.row(row(level, table)));
            levels.push(tables.iter().map(json).collect::<Vec<_>>());
        }
        sections.push((heading(&keyspace.name, &keyspace.levels), columns));
        keyspaces.push(json!({ "name": keyspace.name, "levels": levels }));
    }
    let mut report = Report::new(json!({ "keyspaces": keyspaces }));
    for (index, (heading, columns)) in sections.iter().enumerate() {
        if index > 0 {
            report.line("");
        }
        report.line(heading);
        report.columns(columns);
    }
    report
}

fn heading(name: &str, levels: &[Vec<Table>]) -> String {
    let of_level = |(level, tables): (usize, &Vec<Table>)| {
        let size = bytes(tables.iter().map(|table| table.bytes).sum());
        (!tables.is_empty()).then(|| format!("level {level} {size}"))
    };
    let parts: Vec<String> = levels.iter().enumerate().filter_map(of_level).collect();
    if parts.is_empty() { format!("{name}: no tables") } else { format!("{name}: {}", parts.join(", ")) }
}

fn row(level: usize, table: &Table) -> [String; 10] {
    let upper = match &table.upper {
        UpperKey::Included(key) => short_key(key),
        UpperKey::Excluded(key) => format!("before {}", short_key(key)),
    };
    [
        level.to_string(),
        table.number.to_string(),
        bytes(table.bytes),
        count(table.entries),
        count(table.deletes),
        count(table.range_deletes),
        count(table.expiring),
        format!("{}–{}", table.sequences.0, table.sequences.1),
        short_key(&table.lower),
        upper,
    ]
}

fn json(table: &Table) -> Value {
    let (upper, upper_inclusive) = match &table.upper {
        UpperKey::Included(upper) => (key(upper), true),
        UpperKey::Excluded(upper) => (key(upper), false),
    };
    let blobs: Vec<Value> =
        table.blobs.iter().map(|(number, bytes)| json!({ "number": number, "bytes": bytes })).collect();
    json!({
        "number": table.number, "file": table.file, "bytes": table.bytes, "entries": table.entries,
        "deletes": table.deletes, "range_deletes": table.range_deletes, "expiring": table.expiring,
        "expiry_earliest_ms": table.expiry.map(|expiry| expiry.0.0),
        "expiry_latest_ms": table.expiry.map(|expiry| expiry.1.0),
        "sequence_min": table.sequences.0, "sequence_max": table.sequences.1,
        "lower": key(&table.lower), "upper": upper, "upper_inclusive": upper_inclusive, "blobs": blobs,
    })
}
