//! Minting the change that a client's write comes to, as its table wants it.

use kv_core::record::{Payload, Record, Rule};

use crate::caches::NotTaken;
use crate::catalog::TableSchema;
use crate::machine::{Action, Environment, Notice};
use crate::mint::{Minted, Minter};
use crate::request::{Modify, Put, WriteError};
use crate::table_options::CacheOptions;

pub(super) fn put(
    minter: &mut Minter,
    env: &Environment<'_>,
    table: &TableSchema,
    put: &Put,
) -> Result<Minted, WriteError> {
    match (&put.payload, put.ttl, table.options.ttl) {
        (Payload::Value(_), None, ttl @ Some(_)) => minter.mint(env, table.options.rule, &Put { ttl, ..put.clone() }),
        _ => minter.mint(env, table.options.rule, put),
    }
}

/// In memory only, for a while, and if there is room.
pub(super) fn cached(
    minter: &mut Minter,
    env: &Environment<'_>,
    table: &TableSchema,
    cache: CacheOptions,
    put: &Put,
    out: &mut Vec<Action>,
) -> Result<Minted, WriteError> {
    let is_value = matches!(put.payload, Payload::Value(_));
    let ttl = put.ttl.or(table.options.ttl).unwrap_or(cache.ttl_max);
    if is_value && ttl > cache.ttl_max {
        return Err(WriteError::TtlOverMaximum { ttl, ttl_max: cache.ttl_max });
    }
    let put = Put { ttl: is_value.then_some(ttl), ..put.clone() };
    let minted = minter.mint(env, table.options.rule, &put)?;
    if minted.record.is_none() {
        return Ok(minted);
    }
    let Ok(change) = Record::decode(&minted.change) else {
        return Err(WriteError::Store("what was just minted cannot be read".to_owned()));
    };
    let bytes = minted.change.len();
    match env.caches.admits(&put.key, &change, bytes) {
        Ok(()) => return Ok(minted),
        Err(NotTaken::Early) => panic!("no stamp is minted further ahead than the bound"),
        Err(NotTaken::Full) if is_value => {
            let bytes_max = env.caches.record_bytes_max(&put.key);
            return Err(WriteError::RecordTooLarge { bytes, bytes_max });
        }
        Err(NotTaken::Full) => {}
    }
    out.push(Action::Notify(Notice::CacheFull(table.id)));
    Err(WriteError::CacheFull)
}

pub(super) fn update(
    minter: &mut Minter,
    env: &Environment<'_>,
    table: &TableSchema,
    modify: &Modify,
    news: Option<&Record>,
    required: usize,
) -> Result<Minted, WriteError> {
    let Rule::Crdt(kind) = table.options.rule else {
        return Err(WriteError::WrongTable { rule: table.options.rule });
    };
    minter.modify(env, kind, modify, news).map_err(|error| match error {
        WriteError::Ambiguous { operation, acknowledged, fallbacks, .. } => {
            WriteError::Ambiguous { operation, acknowledged, fallbacks, required }
        }
        other => other,
    })
}
