//! Outcomes that cross the wire: of a forwarded write, and of the creation of a table.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::context::CausalContext;
use kv_core::hlc::{ClockDrift, Stamp};
use kv_core::record::OperationId;
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot};

use super::fields::prefixed;
use super::update;
use crate::catalog::{decode_consistency, encode_consistency};
use crate::quorum::TooFewReplicas;
use crate::request::{ClusterError, WriteError, Written};
use crate::status::Standing;

const CONTEXT_BYTES_MAX: usize = 1 << 20;
const REASON_BYTES_MAX: usize = 4096;

pub(super) fn encode_written(outcome: &Result<Written, WriteError>, out: &mut Vec<u8>) {
    match outcome {
        Ok(written) => {
            out.push(0);
            written.dot.actor.encode(out);
            put_varint(out, written.dot.counter);
            out.extend_from_slice(&written.birth.0.to_le_bytes());
            put_prefixed(out, written.context.as_bytes());
            put_varint(out, written.acknowledged as u64);
            put_fallbacks(written.fallbacks, out);
        }
        Err(WriteError::RecordTooLarge { bytes, bytes_max }) => pair(1, *bytes, *bytes_max, out),
        Err(WriteError::TooManySiblings { held, held_max }) => pair(2, *held, *held_max, out),
        Err(WriteError::Unavailable { reachable, required }) => pair(3, *reachable, *required, out),
        Err(WriteError::Ambiguous { operation, acknowledged, fallbacks, required }) => {
            pair(4, *acknowledged, *required, out);
            out.extend_from_slice(&operation.0.to_le_bytes());
            put_fallbacks(*fallbacks, out);
        }
        Err(WriteError::ClockDrift(drift)) => {
            out.push(5);
            put_varint(out, drift.ahead.0);
            put_varint(out, drift.drift_max.0);
        }
        Err(WriteError::UnknownTable) => out.push(6),
        Err(WriteError::DeadlinePassed) => out.push(7),
        Err(WriteError::Overloaded { retry_after }) => {
            out.push(8);
            put_varint(out, retry_after.0);
        }
        Err(WriteError::NotServing(standing)) => {
            out.push(9);
            out.push(standing.code());
        }
        Err(WriteError::Store(why)) => {
            out.push(10);
            put_reason(why, out);
        }
        Err(WriteError::CacheFull) => out.push(65),
        Err(WriteError::Importing) => out.push(80),
        Err(WriteError::Update(refused)) => update::encode_refused(refused, out),
        Err(WriteError::TooFewReplicas(few)) => {
            pair(11, few.replicas, few.required, out);
            out.push(encode_consistency(few.consistency));
        }
        // What the asker checks before it forwards does not come back; should it, its text does.
        Err(other) => {
            out.push(10);
            put_reason(&other.to_string(), out);
        }
    }
}

pub(super) fn decode_written(
    body: &Bytes,
    reader: &mut Reader<'_>,
) -> Result<Result<Written, WriteError>, DecodeError> {
    Ok(Err(match reader.u8()? {
        0 => {
            return Ok(Ok(Written {
                dot: dot(reader)?,
                birth: Stamp(reader.u64()?),
                context: CausalContext::from_bytes(prefixed(body, reader, CONTEXT_BYTES_MAX)?),
                acknowledged: size(reader)?,
                fallbacks: fallbacks(reader)?,
            }));
        }
        1 => WriteError::RecordTooLarge { bytes: size(reader)?, bytes_max: size(reader)? },
        2 => WriteError::TooManySiblings { held: size(reader)?, held_max: size(reader)? },
        3 => WriteError::Unavailable { reachable: size(reader)?, required: size(reader)? },
        4 => WriteError::Ambiguous {
            acknowledged: size(reader)?,
            required: size(reader)?,
            operation: OperationId(u128::from_le_bytes(reader.array()?)),
            fallbacks: fallbacks(reader)?,
        },
        5 => {
            WriteError::ClockDrift(ClockDrift { ahead: Millis(reader.varint()?), drift_max: Millis(reader.varint()?) })
        }
        6 => WriteError::UnknownTable,
        7 => WriteError::DeadlinePassed,
        8 => WriteError::Overloaded { retry_after: Millis(reader.varint()?) },
        9 => WriteError::NotServing(standing(reader)?),
        10 => WriteError::Store(reason(reader)?),
        65 => WriteError::CacheFull,
        80 => WriteError::Importing,
        update::REFUSED => WriteError::Update(update::decode_refused(reader)?),
        11 => WriteError::TooFewReplicas(TooFewReplicas {
            replicas: size(reader)?,
            required: size(reader)?,
            consistency: decode_consistency(reader)?,
        }),
        _ => return Err(reader.error("unknown outcome of a write")),
    }))
}

pub(super) fn encode_created(outcome: &Result<u32, ClusterError>, out: &mut Vec<u8>) {
    match outcome {
        Ok(version) => {
            out.push(0);
            put_varint(out, u64::from(*version));
        }
        Err(ClusterError::TableExists) => out.push(1),
        Err(ClusterError::InvalidTable(why)) => {
            out.push(2);
            put_reason(why, out);
        }
        Err(ClusterError::Incomplete { missing }) => {
            out.push(3);
            put_varint(out, missing.len() as u64);
            for node in missing {
                put_varint(out, node.0);
            }
        }
        Err(ClusterError::NotServing(standing)) => {
            out.push(4);
            out.push(standing.code());
        }
        Err(other) => {
            out.push(2);
            put_reason(&other.to_string(), out);
        }
    }
}

pub(super) fn decode_created(reader: &mut Reader<'_>) -> Result<Result<u32, ClusterError>, DecodeError> {
    Ok(Err(match reader.u8()? {
        0 => return Ok(Ok(reader.varint32()?)),
        1 => ClusterError::TableExists,
        2 => ClusterError::InvalidTable(reason(reader)?),
        3 => {
            let count = reader.count(1)?;
            let missing = (0..count).map(|_| reader.varint().map(NodeId)).collect::<Result<_, _>>()?;
            ClusterError::Incomplete { missing }
        }
        4 => ClusterError::NotServing(standing(reader)?),
        _ => return Err(reader.error("unknown outcome of a table")),
    }))
}

fn dot(reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
    let dot = Dot { actor: Actor::decode(reader)?, counter: reader.varint()? };
    if dot.counter == 0 {
        return Err(reader.error("counter zero names no write"));
    }
    Ok(dot)
}

fn pair(kind: u8, first: usize, second: usize, out: &mut Vec<u8>) {
    out.push(kind);
    put_varint(out, first as u64);
    put_varint(out, second as u64);
}

fn size(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    usize::try_from(reader.varint()?).map_err(|_| reader.error("a size that does not fit"))
}

/// At the end of an outcome, and only if there are any.
fn put_fallbacks(fallbacks: usize, out: &mut Vec<u8>) {
    if fallbacks > 0 {
        put_varint(out, fallbacks as u64);
    }
}

fn fallbacks(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    if reader.remaining() == 0 { Ok(0) } else { size(reader) }
}

fn standing(reader: &mut Reader<'_>) -> Result<Standing, DecodeError> {
    Standing::from_code(reader.u8()?).ok_or_else(|| reader.error("unknown standing"))
}

fn put_reason(reason: &str, out: &mut Vec<u8>) {
    let end = (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
    put_prefixed(out, &reason.as_bytes()[..end]);
}

fn reason(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    Ok(String::from_utf8_lossy(reader.prefixed(REASON_BYTES_MAX)?).into_owned())
}
