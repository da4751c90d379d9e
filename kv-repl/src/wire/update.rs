//! A change of a data type on its way to a replica, and why one was refused.
//!
//! ```text
//! change  := key:prefixed  operation:u128  consistency:u8  flags:u8 (2 context | 4 after | 8 asked for before | 16 of one life
//!            | 32 strict)
//!            [context:prefixed]  [context to be after:prefixed]  [node:varint  boot:varint]  update
//! refused := 64  1 kind:u8 | 2 | 3 actor total:u64 amount:u64 | 4        (the numbers are u8s; two's complement)
//! ```

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::context::CausalContext;
use kv_core::crdt::{CounterOverflow, Kind, Update, UpdateRefused};
use kv_core::record::OperationId;
use kv_core::version::Actor;

use super::fields::{CONTEXT_BYTES_MAX, decode_key, prefixed};
use crate::catalog::{decode_consistency, encode_consistency};
use crate::identity::Boot;
use crate::request::{Attempt, Modify};

const HAS_CONTEXT: u8 = 2;
const HAS_AFTER: u8 = 4;
const AGAIN: u8 = 8;
const HAS_ASKED: u8 = 16;
const IS_STRICT: u8 = 32;

/// The outcome of a change that a data type does not take.
pub(super) const REFUSED: u8 = 64;

pub(super) fn encode(modify: &Modify, out: &mut Vec<u8>) {
    put_prefixed(out, modify.key.as_bytes());
    out.extend_from_slice(&modify.operation.0.to_le_bytes());
    out.push(encode_consistency(modify.consistency));
    let (again, asked) = match modify.attempt {
        Attempt::First => (0, None),
        Attempt::Again { asked } => (AGAIN, asked),
    };
    let flag = |is_there, flag| if is_there { flag } else { 0 };
    let contexts = flag(modify.context.is_some(), HAS_CONTEXT) | flag(modify.after.is_some(), HAS_AFTER);
    out.push(contexts | again | flag(asked.is_some(), HAS_ASKED) | flag(modify.strict, IS_STRICT));
    for context in modify.context.iter().chain(&modify.after) {
        put_prefixed(out, context.as_bytes());
    }
    if let Some((node, boot)) = asked {
        put_varint(out, node.0);
        put_varint(out, boot.0);
    }
    modify.update.encode(out);
}

pub(super) fn decode(body: &Bytes, reader: &mut Reader<'_>) -> Result<Modify, DecodeError> {
    let key = decode_key(body, reader)?;
    let operation = OperationId(u128::from_le_bytes(reader.array()?));
    let consistency = decode_consistency(reader)?;
    let flags = reader.u8()?;
    if flags & !(HAS_CONTEXT | HAS_AFTER | AGAIN | HAS_ASKED | IS_STRICT) != 0
        || flags & (AGAIN | HAS_ASKED) == HAS_ASKED
    {
        return Err(reader.error("unknown flags of a change"));
    }
    let mut context_if = |flag| {
        let bytes = (flags & flag != 0).then(|| prefixed(body, reader, CONTEXT_BYTES_MAX)).transpose()?;
        Ok(bytes.map(CausalContext::from_bytes))
    };
    let (context, after) = (context_if(HAS_CONTEXT)?, context_if(HAS_AFTER)?);
    let asked = if flags & HAS_ASKED == 0 { None } else { Some((NodeId(reader.varint()?), Boot(reader.varint()?))) };
    let attempt = if flags & AGAIN == 0 { Attempt::First } else { Attempt::Again { asked } };
    let strict = flags & IS_STRICT != 0;
    Ok(Modify { key, update: Update::decode(reader)?, context, after, operation, attempt, consistency, strict })
}

pub(super) fn encode_refused(refused: &UpdateRefused, out: &mut Vec<u8>) {
    out.push(REFUSED);
    match refused {
        UpdateRefused::WrongKind(kind) => out.extend_from_slice(&[1, kind.code()]),
        UpdateRefused::ContextAhead => out.push(2),
        UpdateRefused::Overflow(CounterOverflow { actor, total, amount }) => {
            out.push(3);
            actor.encode(out);
            out.extend_from_slice(&total.to_le_bytes());
            out.extend_from_slice(&amount.to_le_bytes());
        }
        UpdateRefused::TooDeep => out.push(4),
    }
}

pub(super) fn decode_refused(reader: &mut Reader<'_>) -> Result<UpdateRefused, DecodeError> {
    Ok(match reader.u8()? {
        1 => UpdateRefused::WrongKind(
            Kind::from_code(reader.u8()?).ok_or_else(|| reader.error("unknown kind of data type"))?,
        ),
        2 => UpdateRefused::ContextAhead,
        3 => UpdateRefused::Overflow(CounterOverflow {
            actor: Actor::decode(reader)?,
            total: i64::from_le_bytes(reader.array()?),
            amount: i64::from_le_bytes(reader.array()?),
        }),
        4 => UpdateRefused::TooDeep,
        _ => return Err(reader.error("unknown refusal of a change")),
    })
}
