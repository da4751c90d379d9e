//! A put as its coordinator is asked for it.

use bytes::Bytes;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::context::CausalContext;
use kv_core::limits::VALUE_BYTES_MAX;
use kv_core::record::{OperationId, Payload};
use kv_core::time::Millis;

use super::fields::{CONTEXT_BYTES_MAX, decode_key, prefixed};
use crate::catalog::{decode_consistency, encode_consistency};
use crate::request::Put;

const HAS_VALUE: u8 = 1;
const HAS_CONTEXT: u8 = 2;
const HAS_TTL: u8 = 4;
const IS_STRICT: u8 = 8;

pub(super) fn encode(put: &Put, out: &mut Vec<u8>) {
    put_prefixed(out, put.key.as_bytes());
    out.extend_from_slice(&put.operation.0.to_le_bytes());
    out.push(encode_consistency(put.consistency));
    let value = match &put.payload {
        Payload::Value(value) => Some(value),
        Payload::Tombstone => None,
    };
    out.push(
        if value.is_some() { HAS_VALUE } else { 0 }
            | if put.context.is_some() { HAS_CONTEXT } else { 0 }
            | if put.ttl.is_some() { HAS_TTL } else { 0 }
            | if put.strict { IS_STRICT } else { 0 },
    );
    if let Some(context) = &put.context {
        put_prefixed(out, context.as_bytes());
    }
    if let Some(ttl) = put.ttl {
        put_varint(out, ttl.0);
    }
    if let Some(value) = value {
        put_prefixed(out, value);
    }
}

pub(super) fn decode(body: &Bytes, reader: &mut Reader<'_>) -> Result<Put, DecodeError> {
    let key = decode_key(body, reader)?;
    let operation = OperationId(u128::from_le_bytes(reader.array()?));
    let consistency = decode_consistency(reader)?;
    let flags = reader.u8()?;
    if flags & !(HAS_VALUE | HAS_CONTEXT | HAS_TTL | IS_STRICT) != 0 {
        return Err(reader.error("unknown flags of a put"));
    }
    let context = if flags & HAS_CONTEXT == 0 {
        None
    } else {
        Some(CausalContext::from_bytes(prefixed(body, reader, CONTEXT_BYTES_MAX)?))
    };
    let ttl = if flags & HAS_TTL == 0 { None } else { Some(Millis(reader.varint()?)) };
    let payload = if flags & HAS_VALUE == 0 {
        Payload::Tombstone
    } else {
        Payload::Value(prefixed(body, reader, VALUE_BYTES_MAX)?)
    };
    Ok(Put { key, payload, context, ttl, operation, consistency, strict: flags & IS_STRICT != 0 })
}
