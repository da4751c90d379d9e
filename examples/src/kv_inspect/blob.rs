//! One file of separated values.

use std::path::Path;

use kv_lsm::inspect::Files;
use serde_json::{Value, json};

use super::columns::Columns;
use super::error::ToolError;
use super::report::{Report, bytes, count, identity, key, short_key};

pub(super) fn report(files: &Files, file: &Path, with_entries: bool) -> Result<Report, ToolError> {
    let mut columns = Columns::new(&[">at byte", ">number", "key", ">value"]);
    let mut entries = Vec::new();
    let mut value_bytes = 0;
    let blob = files.blob(file, |record| {
        let length = record.value.len() as u64;
        value_bytes += length;
        if with_entries {
            columns.row([record.offset.to_string(), record.sequence.to_string(), short_key(record.key), bytes(length)]);
            entries.push(json!({
                "offset": record.offset, "sequence": record.sequence, "key": key(record.key), "value_bytes": length,
            }));
        }
    })?;
    let mut json = json!({
        "file": file, "keyspace": blob.keyspace, "identity": identity(blob.identity), "bytes": blob.bytes,
        "records": blob.records, "value_bytes": value_bytes,
    });
    if with_entries {
        json["entries"] = Value::Array(entries);
    }
    let mut report = Report::new(json);
    report.line(&format!(
        "blob file of keyspace {}, {}, identity {}: {} values, {} decoded",
        blob.keyspace,
        bytes(blob.bytes),
        identity(blob.identity),
        count(blob.records),
        bytes(value_bytes)
    ));
    if with_entries {
        report.columns(&columns);
    }
    Ok(report)
}
