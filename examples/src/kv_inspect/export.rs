//! What is in the keyspaces, written as a [stream](super::stream).
//!
//! What counts is what a read sees now: the newest values, merge operands folded, nothing deleted or expired. Values keep the
//! time at which they expire. In a keyspace with a merge operator everything must have been folded already, since the operator
//! is not known here.

use std::io::Write;
use std::path::Path;

use kv_lsm::inspect::encode_options;
use kv_lsm::{Database, Error, Snapshot};
use serde_json::json;

use super::error::ToolError;
use super::progress::Bar;
use super::report::{Report, bytes, count};
use super::stream::StreamWriter;

/// The bar moves once for so many entries.
const ENTRIES_A_STEP: u64 = 1024;

pub(super) struct Exported {
    bytes: u64,
    keyspaces: u64,
    entries: u64,
}

pub(super) fn export(directory: &Path, only: &[String], out: &mut dyn Write, bar: &Bar) -> Result<Exported, ToolError> {
    let db = Database::builder(directory).read_only(true).open()?;
    let all = db.keyspaces();
    if let Some(missing) = only.iter().find(|name| !all.contains(name)) {
        return Err(Error::NoSuchKeyspace { name: missing.clone() }.into());
    }
    let names: Vec<String> = all.into_iter().filter(|name| only.is_empty() || only.contains(name)).collect();
    let metrics = db.metrics();
    let wanted = metrics.keyspaces.iter().filter(|keyspace| names.contains(&keyspace.name));
    // Older versions and deletes among them: it may be less in the end.
    bar.begin(wanted.flat_map(|keyspace| &keyspace.levels).map(|level| level.entries).sum());
    let snapshot = db.snapshot();
    let mut writer = StreamWriter::new(out).map_err(ToolError::Output)?;
    let mut done = 0;
    for name in &names {
        export_keyspace(&db, &snapshot, name, &mut writer, &mut || {
            done += 1;
            if done % ENTRIES_A_STEP == 0 {
                bar.reach(done);
            }
        })?;
    }
    let (bytes, keyspaces, entries) = writer.finish().map_err(ToolError::Output)?;
    Ok(Exported { bytes, keyspaces, entries })
}

fn export_keyspace(
    db: &Database,
    snapshot: &Snapshot,
    name: &str,
    writer: &mut StreamWriter<'_>,
    done: &mut dyn FnMut(),
) -> Result<(), ToolError> {
    let options = db.keyspace_options(name)?;
    let keyspace = db.keyspace(name, options.clone())?;
    writer.keyspace(name, &encode_options(&options)).map_err(ToolError::Output)?;
    for entry in snapshot.iter(&keyspace).with_expiry() {
        let (key, value, expire_at) = entry.map_err(|error| match error {
            Error::NoMergeOperator { .. } => ToolError::Operands { name: name.to_owned() },
            other => other.into(),
        })?;
        writer.entry(&key, &value, expire_at).map_err(ToolError::Output)?;
        done();
    }
    Ok(())
}

pub(super) fn report(exported: &Exported) -> Report {
    let Exported { bytes: length, keyspaces, entries } = *exported;
    let mut report = Report::new(json!({ "bytes": length, "keyspaces": keyspaces, "entries": entries }));
    report.line(&format!("exported {} entries of {keyspaces} keyspaces, {}", count(entries), bytes(length)));
    report
}
