//! Which keyspaces there are: opening, creating and dropping them.
//!
//! One of these goes on at a time, and each becomes durable before the rest of the engine knows of it. Nobody who reads or writes
//! waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kv_core::store::Space;

use crate::engine::{Engine, KeyspaceState, lock};
use crate::error::Error;
use crate::handle::Handle;
use crate::keyspace::Keyspace;
use crate::keyspace_options::KeyspaceOptions;
use crate::keyspace_options::stored::Conflict;
use crate::limits::NAME_BYTES_MAX;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{Edit, Item, KeyspaceRecord};

/// Opens a keyspace by name; `id` is its number when the host chose it, else the next free one is taken.
pub(crate) fn open_keyspace(
    handle: &Arc<Handle>,
    name: &str,
    id: Option<u32>,
    options: &KeyspaceOptions,
) -> Result<Keyspace, Error> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::TooLarge { what: "name", bytes: name.len(), bytes_max: NAME_BYTES_MAX });
    }
    options.validate()?;
    let _turn = lock(&handle.keyspace_turn);
    let catalog = handle.catalog();
    let by_id = id.and_then(|id| catalog.keyspaces.get(&id));
    let id = match by_id.or_else(|| named(&catalog, name)) {
        Some(record) => {
            if let Some((option, created, wanted)) = conflict(record, name, id, options) {
                return Err(Error::OptionsMismatch { name: record.name.clone(), option, created, wanted });
            }
            if record.options != options.stored {
                let change = Item::Options { id: record.id, options: options.stored.clone() };
                handle.install(Edit(vec![change]), |_| {})?;
            }
            record.id
        }
        None => create(handle, &catalog, name, id, options)?,
    };
    let state = remember(handle, id, name, options);
    Ok(Keyspace::new(Arc::clone(handle), id, state.name, state.default_ttl_ms))
}

fn named<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a KeyspaceRecord> {
    catalog.keyspaces.values().find(|record| record.name == name)
}

fn conflict(record: &KeyspaceRecord, name: &str, id: Option<u32>, options: &KeyspaceOptions) -> Option<Conflict> {
    if record.name != name {
        return Some(("name", format!("{:?}", record.name), format!("{name:?}")));
    }
    if let Some(id) = id.filter(|&id| id != record.id) {
        return Some(("number", record.id.to_string(), id.to_string()));
    }
    record.options.conflict(&options.stored)
}

fn create(
    engine: &Engine,
    catalog: &Catalog,
    name: &str,
    id: Option<u32>,
    options: &KeyspaceOptions,
) -> Result<u32, Error> {
    engine.writable()?;
    let id = id.unwrap_or(catalog.next_keyspace);
    let record = KeyspaceRecord { id, name: name.to_owned(), options: options.stored.clone() };
    let next = catalog.next_keyspace.max(id.max(Space::RESERVED - 1) + 1);
    engine.install(Edit(vec![Item::Keyspace(record), Item::Next { file: 0, keyspace: next }]), |_| {})?;
    Ok(id)
}

fn remember(engine: &Engine, id: u32, name: &str, options: &KeyspaceOptions) -> KeyspaceState {
    let stored = Arc::new(options.stored.clone());
    engine.keyspaces.rcu(|keyspaces| {
        let mut keyspaces = (**keyspaces).clone();
        let state = keyspaces.entry(id).or_insert_with(|| KeyspaceState::new(name, None, options.stored.clone()));
        state.options = Arc::clone(&stored);
        state.default_ttl_ms.store(stored.default_ttl_ms.unwrap_or(0), Ordering::Relaxed);
        if state.operator.is_none() {
            state.operator.clone_from(&options.operator);
        }
        keyspaces
    });
    engine.keyspaces.load().get(&id).cloned().expect("nobody drops it during this turn")
}

/// Drops a keyspace, see [`Database::drop_keyspace`](crate::Database::drop_keyspace).
///
/// # Errors
/// As there.
pub(crate) fn drop_keyspace(engine: &Engine, name: &str) -> Result<(), Error> {
    engine.writable()?;
    let _turn = lock(&engine.keyspace_turn);
    let id = named(&engine.catalog(), name).ok_or_else(|| Error::NoSuchKeyspace { name: name.to_owned() })?.id;
    if id < Space::RESERVED {
        let what = format!("keyspace {name:?} is space {id} of a store, whose numbers are never given up");
        return Err(Error::InvalidOptions { what });
    }
    // Whoever is flushing or compacting may be about to name tables of it.
    let _flush = lock(&engine.flush_turn);
    let _compaction = lock(&engine.compaction_turn);
    let before = Arc::clone(&engine.version());
    // A reader who pins the new version finds no keyspace, and never an empty one: it is forgotten first.
    engine.install(Edit(vec![Item::Dropped { id }]), |_| forget(engine, id))?;
    if let Some(tree) = before.trees.get(&id) {
        // Rule E5: the edit is durable. A file goes when the last iterator that reads it does.
        tree.tables().for_each(|table| table.retire());
        tree.blobs.by_number.values().for_each(|blob| blob.file.retire());
    }
    drop(before);
    engine.purge();
    Ok(())
}

fn forget(engine: &Engine, id: u32) {
    engine.keyspaces.rcu(|keyspaces| {
        let mut keyspaces = (**keyspaces).clone();
        keyspaces.remove(&id);
        keyspaces
    });
}

/// The options of a keyspace, see [`Database::keyspace_options`](crate::Database::keyspace_options).
///
/// # Errors
/// As there.
pub(crate) fn keyspace_options(engine: &Engine, name: &str) -> Result<KeyspaceOptions, Error> {
    let keyspaces = engine.keyspaces.load();
    let state = keyspaces.values().find(|state| &*state.name == name);
    let state = state.ok_or_else(|| Error::NoSuchKeyspace { name: name.to_owned() })?;
    Ok(KeyspaceOptions { operator: state.operator.clone(), stored: (*state.options).clone() })
}
