//! What a replica says of one key.
//!
//! ```text
//! sight   := flags:u8 (1 a record)  [held]  count:varint  peer*
//! held    := digest:u128  bytes:varint  birth:u64  version vector  count:varint  version*
//! version := actor  counter:varint  birth:u64  bytes:varint  flags:u8 (1 tombstone | 2 expires | 4 operation)
//!            [expiry ms:varint]  [operation:u128]
//! peer    := node:varint  flags:u8 (1 hint | 2 owed | 4 compared)  [bytes:varint  oldest birth:u64]  [ago ms:varint]
//! ```

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::expiry::Expiry;
use kv_core::hlc::Stamp;
use kv_core::record::OperationId;
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot, VersionVector};

use crate::sight::{HeldRecord, HeldVersion, KeptHint, PeerSight, Sight};

const HAS_RECORD: u8 = 1;
const IS_TOMBSTONE: u8 = 1;
const EXPIRES: u8 = 2;
const HAS_OPERATION: u8 = 4;
const HAS_HINT: u8 = 1;
const IS_OWED: u8 = 2;
const WAS_COMPARED: u8 = 4;

/// The least that a version takes: actor, counter, birth, length and flags.
const VERSION_BYTES_MIN: usize = Actor::BYTES_MIN + 1 + 8 + 1 + 1;

pub(super) fn encode(sight: &Sight, out: &mut Vec<u8>) {
    out.push(flag(sight.record.is_some(), HAS_RECORD));
    if let Some(held) = &sight.record {
        out.extend_from_slice(&held.digest.to_le_bytes());
        put_varint(out, held.bytes);
        out.extend_from_slice(&held.birth_max.0.to_le_bytes());
        held.context.encode(out);
        put_varint(out, held.versions.len() as u64);
        held.versions.iter().for_each(|version| encode_version(version, out));
    }
    put_varint(out, sight.peers.len() as u64);
    for PeerSight { peer, hint, owed, compared_ago } in &sight.peers {
        put_varint(out, peer.0);
        out.push(flag(hint.is_some(), HAS_HINT) | flag(*owed, IS_OWED) | flag(compared_ago.is_some(), WAS_COMPARED));
        if let Some(KeptHint { bytes, oldest }) = hint {
            put_varint(out, *bytes);
            out.extend_from_slice(&oldest.0.to_le_bytes());
        }
        if let Some(ago) = compared_ago {
            put_varint(out, ago.0);
        }
    }
}

fn encode_version(version: &HeldVersion, out: &mut Vec<u8>) {
    let HeldVersion { dot, birth, is_tombstone, bytes, expiry, operation } = version;
    dot.actor.encode(out);
    put_varint(out, dot.counter);
    out.extend_from_slice(&birth.0.to_le_bytes());
    put_varint(out, *bytes);
    let expires = expiry.time();
    out.push(
        flag(*is_tombstone, IS_TOMBSTONE) | flag(expires.is_some(), EXPIRES) | flag(operation.is_some(), HAS_OPERATION),
    );
    if let Some(at) = expires {
        put_varint(out, at.0);
    }
    if let Some(operation) = operation {
        out.extend_from_slice(&operation.0.to_le_bytes());
    }
}

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Sight, DecodeError> {
    let record = if flags(reader, HAS_RECORD)? == 0 { None } else { Some(decode_held(reader)?) };
    let count = reader.count(2)?;
    let mut peers = Vec::with_capacity(count);
    for _ in 0..count {
        let peer = NodeId(reader.varint()?);
        let flags = flags(reader, HAS_HINT | IS_OWED | WAS_COMPARED)?;
        let hint = match flags & HAS_HINT {
            0 => None,
            _ => Some(KeptHint { bytes: reader.varint()?, oldest: Stamp(reader.u64()?) }),
        };
        let compared_ago = if flags & WAS_COMPARED == 0 { None } else { Some(Millis(reader.varint()?)) };
        peers.push(PeerSight { peer, hint, owed: flags & IS_OWED != 0, compared_ago });
    }
    Ok(Sight { record, peers })
}

fn decode_held(reader: &mut Reader<'_>) -> Result<HeldRecord, DecodeError> {
    let digest = u128::from_le_bytes(reader.array()?);
    let bytes = reader.varint()?;
    let birth_max = Stamp(reader.u64()?);
    let context = VersionVector::decode(reader)?;
    let count = reader.count(VERSION_BYTES_MIN)?;
    let versions = (0..count).map(|_| decode_version(reader)).collect::<Result<_, _>>()?;
    Ok(HeldRecord { digest, bytes, birth_max, context, versions })
}

fn decode_version(reader: &mut Reader<'_>) -> Result<HeldVersion, DecodeError> {
    let dot = Dot { actor: Actor::decode(reader)?, counter: reader.varint()? };
    let birth = Stamp(reader.u64()?);
    let bytes = reader.varint()?;
    let flags = flags(reader, IS_TOMBSTONE | EXPIRES | HAS_OPERATION)?;
    let expiry = if flags & EXPIRES == 0 { Expiry::NEVER } else { Expiry::at(Millis(reader.varint()?)) };
    let operation = match flags & HAS_OPERATION {
        0 => None,
        _ => Some(OperationId(u128::from_le_bytes(reader.array()?))),
    };
    Ok(HeldVersion { dot, birth, is_tombstone: flags & IS_TOMBSTONE != 0, bytes, expiry, operation })
}

const fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn flags(reader: &mut Reader<'_>, known: u8) -> Result<u8, DecodeError> {
    match reader.u8()? {
        flags if flags & !known == 0 => Ok(flags),
        _ => Err(reader.error("unknown flags of what a replica holds")),
    }
}
