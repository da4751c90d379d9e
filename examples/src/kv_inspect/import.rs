//! An export, written into a database.
//!
//! Keyspaces that are not there are created with the options that they were exported with. One that is there must have the same
//! merge operator (or none), compaction and inline prefix, takes over the other options, and keeps what it holds under other
//! keys. Each frame of entries is one batch. Everything is durable when the import returns; after an error what was applied by
//! then stays, and importing again leads to the same state as if nothing had happened.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use kv_lsm::inspect::decode_options;
use kv_lsm::{Batch, Database, Durability, Keyspace, KeyspaceOptions};
use serde_json::json;

use super::error::ToolError;
use super::progress::Bar;
use super::report::{Report, count};
use super::stream::{Frame, StreamError, StreamReader, Wrong};

pub(super) struct Imported {
    keyspaces: u64,
    entries: u64,
}

pub(super) fn import(directory: &Path, input: impl Read, bar: &Bar) -> Result<Imported, ToolError> {
    // Nothing is made in a directory for what is not an export.
    let mut reader = StreamReader::new(input)?;
    let db = Database::builder(directory).durability(Durability::Buffered).open()?;
    let mut options = BTreeMap::new();
    let loaded = load(&db, &mut reader, &mut options, bar);
    // Also when it failed: values must not go on living for ever in a keyspace where they should not.
    let settled: Result<(), ToolError> =
        options.into_iter().try_for_each(|(name, options)| Ok(db.keyspace(&name, options).map(drop)?));
    loaded?;
    settled?;
    db.sync()?;
    let (keyspaces, entries) = reader.counts();
    Ok(Imported { keyspaces, entries })
}

fn load(
    db: &Database,
    reader: &mut StreamReader<impl Read>,
    options: &mut BTreeMap<String, KeyspaceOptions>,
    bar: &Bar,
) -> Result<(), ToolError> {
    let mut current: Option<Keyspace> = None;
    let mut batch = Batch::new();
    loop {
        let offset = reader.offset();
        let refuse = |what| StreamError { offset, what: Wrong::Malformed(what) };
        match reader.next()? {
            Frame::Keyspace { name, options: encoded } => {
                let decoded = decode_options(&encoded).map_err(|error| refuse(error.what))?;
                // Entries keep the expiry that they had, or none, whatever the keyspace gives to new ones.
                current = Some(db.keyspace(&name, decoded.clone().no_default_ttl())?);
                if options.insert(name, decoded).is_some() {
                    return Err(refuse("each keyspace once").into());
                }
            }
            Frame::Entries(entries) => {
                let keyspace = current.as_ref().expect("the reader refuses entries without a keyspace");
                entries.for_each(|key, value, expire_at| match expire_at {
                    Some(time) => batch.put_expiring(keyspace, key, value, time),
                    None => batch.put(keyspace, key, value),
                });
                db.write(std::mem::take(&mut batch))?;
            }
            Frame::End => return Ok(()),
        }
        bar.reach(reader.offset());
    }
}

pub(super) fn report(imported: &Imported) -> Report {
    let Imported { keyspaces, entries } = *imported;
    let mut report = Report::new(json!({ "keyspaces": keyspaces, "entries": entries }));
    report.line(&format!("imported {} entries into {keyspaces} keyspaces", count(entries)));
    report
}
