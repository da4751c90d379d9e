//! One table.

use std::path::Path;

use kv_lsm::inspect::{BlockCompression, Files, Kind, Place, Version};
use serde_json::{Value, json};

use super::columns::Columns;
use super::error::ToolError;
use super::report::{Report, bytes, count, identity, key, short_key};

pub(super) fn report(files: &Files, file: &Path, with_entries: bool) -> Result<Report, ToolError> {
    let mut versions = Columns::new(&["key", ">number", "kind", ">value", ">expires at, ms", "blob file"]);
    let mut entries = Vec::new();
    let table = files.table_versions(file, |version| {
        if with_entries {
            versions.row(row(version));
            entries.push(entry_json(version));
        }
    })?;
    let mut blocks =
        Columns::new(&[">block", ">at byte", ">stored", ">decoded", "compression", ">versions", "last key"]);
    let mut blocks_json = Vec::new();
    for (index, block) in table.blocks.iter().enumerate() {
        let compression = match block.compression {
            BlockCompression::None => "none",
            BlockCompression::Lz4 => "lz4",
            BlockCompression::Zstd => "zstd",
        };
        blocks.row([
            index.to_string(),
            block.place.offset.to_string(),
            bytes(block.place.bytes),
            bytes(block.decoded_bytes),
            compression.to_owned(),
            count(block.entries),
            short_key(&block.last_key),
        ]);
        blocks_json.push(json!({
            "offset": block.place.offset, "bytes": block.place.bytes, "decoded_bytes": block.decoded_bytes,
            "compression": compression, "entries": block.entries, "last_key": key(&block.last_key),
        }));
    }
    let place = |place: Place| json!({ "offset": place.offset, "bytes": place.bytes });
    let properties = table.properties;
    let ranges = table
        .deleted_ranges
        .iter()
        .map(|range| json!({ "start": key(&range.start), "end": key(&range.end), "sequence": range.sequence }));
    let mut json = json!({
        "file": file, "bytes": table.bytes, "identity": identity(table.identity), "version": table.version,
        "features": table.features, "index": place(table.index), "filter": table.filter.map(place),
        "deleted_ranges_at": table.deleted_ranges_at.map(place), "properties_at": place(table.properties_at),
        "properties": {
            "keyspace": properties.keyspace, "entries": properties.entries, "deletes": properties.deletes,
            "merges": properties.merges, "expiring": properties.expiring, "range_deletes": properties.range_deletes,
            "key_value_bytes": properties.key_value_bytes, "sequence_min": properties.sequence_min,
            "sequence_max": properties.sequence_max,
        },
        "blocks": blocks_json, "deleted_ranges": ranges.collect::<Vec<_>>(),
    });
    if with_entries {
        json["entries"] = Value::Array(entries);
    }
    let mut report = Report::new(json);
    let whole = bytes(table.bytes);
    report.line(&format!("table of keyspace {}, {whole}, identity {}", properties.keyspace, identity(table.identity)));
    report.line(&format!(
        "{} versions: {} deletes, {} merge operands, {} expire; {} deleted ranges; {} of keys and values; numbers {}–{}",
        count(properties.entries),
        count(properties.deletes),
        count(properties.merges),
        count(properties.expiring),
        count(properties.range_deletes),
        bytes(properties.key_value_bytes),
        properties.sequence_min,
        properties.sequence_max
    ));
    let shown = |place: Place| format!("{} at byte {}", bytes(place.bytes), place.offset);
    report.line(&format!(
        "index {}, filter {}, properties {}",
        shown(table.index),
        table.filter.map_or("none".to_owned(), shown),
        shown(table.properties_at)
    ));
    for range in &table.deleted_ranges {
        let (start, end) = (short_key(&range.start), short_key(&range.end));
        report.line(&format!("deleted range from {start} to before {end}, number {}", range.sequence));
    }
    report.columns(&blocks);
    if with_entries {
        report.columns(&versions);
    }
    Ok(report)
}

fn kind(version: &Version<'_>) -> &'static str {
    match version.kind {
        Kind::Delete => "delete",
        Kind::Put => "put",
        Kind::Merge => "merge",
    }
}

fn value_bytes(version: &Version<'_>) -> u64 {
    version.blob.map_or(version.value.len() as u64, |blob| blob.value_bytes)
}

fn row(version: &Version<'_>) -> [String; 6] {
    [
        short_key(version.key),
        version.sequence.to_string(),
        kind(version).to_owned(),
        bytes(value_bytes(version)),
        version.expire_at.map_or(String::new(), |time| time.0.to_string()),
        version.blob.map_or(String::new(), |blob| format!("{} at byte {}", blob.file, blob.offset)),
    ]
}

fn entry_json(version: &Version<'_>) -> Value {
    json!({
        "key": key(version.key), "sequence": version.sequence, "kind": kind(version),
        "value_bytes": value_bytes(version), "expire_at_ms": version.expire_at.map(|time| time.0),
        "blob": version.blob.map(|blob| json!({ "file": blob.file, "offset": blob.offset })),
    })
}
