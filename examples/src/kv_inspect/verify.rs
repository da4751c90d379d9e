//! Everything is read, and checked.

use std::path::Path;

use kv_lsm::{Database, Problem, VerifyReport};
use serde_json::{Value, json};

use super::error::ToolError;
use super::progress::Bar;
use super::report::{Report, bytes, count};

pub(super) fn verify(directory: &Path, bar: &Bar) -> Result<VerifyReport, ToolError> {
    let report = Database::builder(directory).verify_files(|progress| {
        bar.begin(progress.total_bytes);
        bar.reach(progress.done_bytes);
    });
    Ok(report?)
}

pub(super) fn report(found: &VerifyReport) -> Report {
    let problems = |problems: &[Problem]| -> Vec<Value> {
        let json =
            |problem: &Problem| json!({ "file": problem.file, "offset": problem.offset, "expected": problem.expected });
        problems.iter().map(json).collect()
    };
    let mut report = Report::new(json!({
        "sound": found.is_sound(), "keyspaces": found.keyspaces, "tables": found.tables,
        "table_bytes": found.table_bytes, "blocks": found.blocks, "entries": found.entries,
        "range_deletes": found.range_deletes, "blob_files": found.blob_files, "blob_bytes": found.blob_bytes,
        "blob_records": found.blob_records, "log_segments": found.log_segments, "log_bytes": found.log_bytes,
        "batches": found.batches, "operations": found.operations, "torn": problems(&found.torn),
        "problems": problems(&found.problems),
    }));
    report.line(&format!("keyspaces: {}", count(found.keyspaces)));
    report.line(&format!(
        "tables: {}, {}, with {} blocks, {} versions, {} deleted ranges",
        count(found.tables),
        bytes(found.table_bytes),
        count(found.blocks),
        count(found.entries),
        count(found.range_deletes)
    ));
    report.line(&format!(
        "blob files: {}, {}, with {} values",
        count(found.blob_files),
        bytes(found.blob_bytes),
        count(found.blob_records)
    ));
    report.line(&format!(
        "log files: {}, {}, with {} batches, {} operations",
        count(found.log_segments),
        bytes(found.log_bytes),
        count(found.batches),
        count(found.operations)
    ));
    for torn in &found.torn {
        report.line(&format!("torn, and discarded when the database is next opened: {torn}"));
    }
    for problem in &found.problems {
        report.line(&format!("WRONG: {problem}"));
    }
    report.line(&match found.problems.len() {
        0 => "sound".to_owned(),
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    });
    report
}
