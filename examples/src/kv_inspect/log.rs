//! One segment of the log.

use std::path::Path;

use kv_core::store::Operation;
use kv_lsm::inspect::Files;
use serde_json::{Value, json};

use super::columns::Columns;
use super::error::ToolError;
use super::report::{Report, bytes, count, key, short_key};

pub(super) fn report(files: &Files, file: &Path) -> Result<Report, ToolError> {
    let mut columns = Columns::new(&[">position", ">at byte", ">number", "operation", ">keyspace", "key", ">value"]);
    let mut records = Vec::new();
    let segment = files.log(file, |record| {
        let mut operations = Vec::new();
        for (sequence, operation) in (record.first_sequence..).zip(record.batch) {
            let is_first = sequence == record.first_sequence;
            let shown = Shown::of(&operation);
            let begins = |text: String| if is_first { text } else { String::new() };
            columns.row([
                begins(record.position.to_string()),
                begins(record.offset.to_string()),
                sequence.to_string(),
                shown.name.to_owned(),
                operation.space().0.to_string(),
                shown.key_text(),
                shown.value.map_or(String::new(), |value| bytes(value.len() as u64)),
            ]);
            operations.push(shown.json(sequence, operation.space().0));
        }
        records.push(json!({
            "offset": record.offset, "position": record.position, "first_sequence": record.first_sequence,
            "operations": operations,
        }));
    })?;
    let total = records.len() as u64;
    let mut report = Report::new(json!({
        "file": file, "number": segment.number, "bytes": segment.bytes, "position": segment.position,
        "previous": segment.previous, "synced": segment.synced, "end": segment.end, "expected": segment.expected,
        "records": records,
    }));
    report.line(&format!(
        "segment {} behind segment {}, {}, from position {}; begun when the log was synced up to {}",
        segment.number,
        segment.previous,
        bytes(segment.bytes),
        segment.position,
        segment.synced
    ));
    report.columns(&columns);
    report.line(&format!("{} records; the last one ends at byte {}", count(total), segment.end));
    if let Some(expected) = &segment.expected {
        report.line(&format!(
            "behind it lies something else than {expected}: a torn tail, damage, or what the file held before it was \
             used again; `verify` tells them apart"
        ));
    }
    Ok(report)
}

/// An operation, as it is shown.
struct Shown<'a> {
    name: &'static str,
    key: &'a [u8],
    end: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    expire_at_ms: Option<u64>,
}

impl<'a> Shown<'a> {
    fn of(operation: &Operation<'a>) -> Self {
        let plain = |name, key, value| Self { name, key, end: None, value, expire_at_ms: None };
        match *operation {
            Operation::Put { key, value, .. } => plain("put", key, Some(value)),
            Operation::PutExpiring { key, value, expire_at, .. } => {
                Self { expire_at_ms: Some(expire_at.0), ..plain("put expiring", key, Some(value)) }
            }
            Operation::Merge { key, operand, .. } => plain("merge", key, Some(operand)),
            Operation::Delete { key, .. } => plain("delete", key, None),
            Operation::DeleteRange { start, end, .. } => Self { end: Some(end), ..plain("delete range", start, None) },
        }
    }

    fn key_text(&self) -> String {
        match self.end {
            Some(end) => format!("{} to before {}", short_key(self.key), short_key(end)),
            None => short_key(self.key),
        }
    }

    fn json(&self, sequence: u64, keyspace: u32) -> Value {
        json!({
            "sequence": sequence, "operation": self.name, "keyspace": keyspace, "key": key(self.key),
            "end": self.end.map(key), "value_bytes": self.value.map(<[u8]>::len), "expire_at_ms": self.expire_at_ms,
        })
    }
}
