//! What the manifest says.

use kv_lsm::inspect::{Manifest, Options};
use kv_lsm::{CompactionStrategy, Compression};
use serde_json::{Value, json};

use super::columns::Columns;
use super::report::{Report, bytes, count, identity};

pub(super) fn report(manifest: &Manifest) -> Report {
    let mut keyspaces = Vec::new();
    let mut names = Columns::new(&[">number", "keyspace", "options"]);
    let mut blobs = Columns::new(&[">blob file", "keyspace", ">size", ">values", ">live", ">garbage"]);
    let mut blob_files = 0;
    for keyspace in &manifest.keyspaces {
        names.row([keyspace.id.to_string(), keyspace.name.clone(), options_text(&keyspace.options)]);
        let mut files = Vec::new();
        for blob in &keyspace.blobs {
            blob_files += 1;
            blobs.row([
                blob.number.to_string(),
                keyspace.name.clone(),
                bytes(blob.bytes),
                count(blob.records),
                bytes(blob.live_bytes),
                bytes(blob.garbage_bytes),
            ]);
            files.push(json!({
                "number": blob.number, "file": blob.file, "bytes": blob.bytes, "records": blob.records,
                "live_bytes": blob.live_bytes, "garbage_bytes": blob.garbage_bytes,
            }));
        }
        keyspaces.push(json!({
            "id": keyspace.id, "name": keyspace.name, "options": options_json(&keyspace.options), "blob_files": files,
        }));
    }
    let log_files: Vec<Value> =
        manifest.log_files.iter().map(|(file, bytes)| json!({ "file": file, "bytes": bytes })).collect();
    let mut report = Report::new(json!({
        "number": manifest.number, "file": manifest.file, "database": identity(manifest.database),
        "torn_at": manifest.torn_at, "log_segment": manifest.log_segment, "log_position": manifest.log_position,
        "flushed_sequence": manifest.flushed_sequence, "next_file": manifest.next_file,
        "next_keyspace": manifest.next_keyspace, "time_ms": manifest.time.0, "keyspaces": keyspaces,
        "log_files": log_files, "unneeded_files": manifest.unneeded_files,
    }));
    report.line(&format!("manifest {} of database {}", manifest.number, identity(manifest.database)));
    let (segment, position) = (manifest.log_segment, count(manifest.log_position));
    report.line(&format!("the log begins with segment {segment} at position {position}"));
    report.line(&format!("operations up to {} are in tables", count(manifest.flushed_sequence)));
    if let Some(offset) = manifest.torn_at {
        report.line(&format!("an edit at byte {offset} was not finished"));
    }
    report.columns(&names);
    if blob_files > 0 {
        report.columns(&blobs);
    }
    report
}

fn compression_text(compression: Compression) -> String {
    match compression {
        Compression::None => "none".to_owned(),
        Compression::Lz4 => "lz4".to_owned(),
        Compression::Zstd(level) => format!("zstd {level}"),
    }
}

fn options_text(options: &Options) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name} {value}")));
    add("merge", options.merge.then(|| "operator".to_owned()));
    add("ttl", options.default_ttl_ms.map(|ttl| format!("{ttl} ms")));
    if let CompactionStrategy::Fifo { bytes_max } = options.compaction {
        add("fifo", Some(bytes_max.map_or("without bound".to_owned(), bytes)));
    }
    let list = |list: &Vec<Compression>| list.iter().copied().map(compression_text).collect::<Vec<_>>().join("/");
    add("compression", options.compression.as_ref().map(list));
    add("blocks", options.block_bytes.map(|length| bytes(length.into())));
    add("filter", options.filter_bits_per_key.map(|bits| format!("{bits} bits")));
    add("separate from", options.separate_values_from.map(|length| bytes(length.into())));
    add("inline", options.inline_prefix_bytes.map(|length| bytes(length.into())));
    if parts.is_empty() { "default".to_owned() } else { parts.join(", ") }
}

fn options_json(options: &Options) -> Value {
    let fifo = match options.compaction {
        CompactionStrategy::Leveled => Value::Null,
        CompactionStrategy::Fifo { bytes_max } => json!({ "bytes_max": bytes_max }),
    };
    let compression: Option<Vec<String>> =
        options.compression.as_ref().map(|list| list.iter().copied().map(compression_text).collect());
    json!({
        "merge": options.merge, "default_ttl_ms": options.default_ttl_ms, "fifo": fifo, "compression": compression,
        "block_bytes": options.block_bytes, "filter_bits_per_key": options.filter_bits_per_key,
        "separate_values_from": options.separate_values_from, "inline_prefix_bytes": options.inline_prefix_bytes,
    })
}
