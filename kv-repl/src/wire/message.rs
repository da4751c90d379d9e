//! The bodies of messages. The table of kinds and fields in `docs/protocol.md` is checked against this file by a test.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::context::CausalContext;
use kv_core::key::RecordKey;
use kv_core::limits::{STORE_KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kv_core::record::{OperationId, Payload};
use kv_core::time::Millis;

use super::together::{self, put_message};
use super::{floor, outcome, repair, rumour, scan, sight, update};
use crate::catalog::{
    Founding, TableSchema, decode_consistency, decode_options, encode_consistency, encode_options, text,
};
use crate::message::{Message, Refusal, Unwelcome};
use crate::request::Put;
use crate::scan::position::decode_range;

const HELLO: u8 = 1;
const HELLO_REPLY: u8 = 2;
const UNWELCOME: u8 = 3;
const FOUND: u8 = 4;
const CATALOG_PUSH: u8 = 5;
const CATALOG_HAVE: u8 = 6;
const CREATE_TABLE: u8 = 7;
const TABLE_CREATED: u8 = 8;
const FORWARD: u8 = 9;
const FORWARDED: u8 = 10;
const WRITE: u8 = 11;
const WRITE_REPLY: u8 = 12;
const READ: u8 = 13;
const READ_REPLY: u8 = 14;
// Further kinds of requests are counted on from here, those of gossip from 32.
const PING: u8 = 32;
const PING_REQUEST: u8 = 33;
const ACK: u8 = 34;
const NACK: u8 = 35;
const NEWS: u8 = 36;
const EXCHANGE: u8 = 37;
const REPAIR_ASK: u8 = 40;
const REPAIR_ANSWER: u8 = 41;
const FORWARD_UPDATE: u8 = 64;
const REPLACE: u8 = 80;
const KEEP: u8 = 88;
const KEPT: u8 = 89;
pub(super) const TOGETHER: u8 = 72;
const DESCRIBE: u8 = 73;
const DESCRIBED: u8 = 74;
const SCAN: u8 = 76;
const LISTED: u8 = 77;

const DIGEST_REPLY: u8 = 56;
const FLOOR_ASK: u8 = 96;
const FLOOR_TOLD: u8 = 97;

/// Flag of a read: a digest is enough.
const DIGEST: u8 = 1;

/// A causal context is bounded by what a record may hold; this is far above it.
pub(super) const CONTEXT_BYTES_MAX: usize = 1 << 20;

/// Appends the body and returns the kind.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) -> u8 {
    match message {
        Message::Hello { nonce, catalog_version, address } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            put_varint(out, u64::from(*catalog_version));
            put_prefixed(out, address.as_bytes());
            HELLO
        }
        Message::HelloReply { nonce, own_nonce, catalog_version } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            out.extend_from_slice(&own_nonce.to_le_bytes());
            put_varint(out, u64::from(*catalog_version));
            HELLO_REPLY
        }
        Message::Unwelcome { nonce, reason } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            out.push(match reason {
                Unwelcome::OtherIncarnation => 1,
                Unwelcome::RolledBack => 2,
                Unwelcome::Stranger => 3,
            });
            UNWELCOME
        }
        Message::Found(founding) => {
            founding.encode(out);
            FOUND
        }
        Message::Replace { nonce } => {
            out.extend_from_slice(&nonce.to_le_bytes());
            REPLACE
        }
        Message::CatalogPush { after, tables } => {
            put_varint(out, u64::from(*after));
            put_varint(out, tables.len() as u64);
            for table in tables {
                table.encode(out);
            }
            CATALOG_PUSH
        }
        Message::CatalogHave { version } => {
            put_varint(out, u64::from(*version));
            CATALOG_HAVE
        }
        Message::CreateTable { tag, name, options } => {
            put_varint(out, *tag);
            put_prefixed(out, name.as_bytes());
            encode_options(options, out);
            CREATE_TABLE
        }
        Message::TableCreated { tag, outcome } => {
            put_varint(out, *tag);
            outcome::encode_created(outcome, out);
            TABLE_CREATED
        }
        Message::Forward { tag, settled_below, time_left, put } => {
            put_varint(out, *tag);
            put_varint(out, *settled_below);
            put_varint(out, time_left.0);
            encode_put(put, out);
            FORWARD
        }
        Message::ForwardUpdate { tag, settled_below, time_left, modify } => {
            put_varint(out, *tag);
            put_varint(out, *settled_below);
            put_varint(out, time_left.0);
            update::encode(modify, out);
            FORWARD_UPDATE
        }
        Message::Forwarded { tag, outcome } => {
            put_varint(out, *tag);
            outcome::encode_written(outcome, out);
            FORWARDED
        }
        Message::Write { tag, epoch, key, record } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            put_prefixed(out, key.as_bytes());
            out.extend_from_slice(record);
            WRITE
        }
        Message::WriteReply { tag, refused } => {
            put_varint(out, *tag);
            encode_answer(*refused, out);
            WRITE_REPLY
        }
        Message::Keep { tag, epoch, target, key, record } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            put_varint(out, target.0);
            put_prefixed(out, key.as_bytes());
            out.extend_from_slice(record);
            KEEP
        }
        Message::Kept { tag, target, refused } => {
            put_varint(out, *tag);
            put_varint(out, target.0);
            encode_answer(*refused, out);
            KEPT
        }
        Message::Read { tag, epoch, key, digest } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            put_prefixed(out, key.as_bytes());
            if *digest {
                out.push(DIGEST);
            }
            READ
        }
        Message::DigestReply { tag, outcome } => {
            put_varint(out, *tag);
            match outcome {
                Ok(digest) => {
                    out.push(0);
                    out.extend_from_slice(&digest.to_le_bytes());
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            DIGEST_REPLY
        }
        Message::ReadReply { tag, outcome } => {
            put_varint(out, *tag);
            match outcome {
                Ok(record) => {
                    out.push(0);
                    out.extend_from_slice(record.as_ref().map_or(&[], |record| &record[..]));
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            READ_REPLY
        }
        Message::Ping { sequence, rumours } => {
            put_varint(out, *sequence);
            rumour::encode_all(rumours, out);
            PING
        }
        Message::PingRequest { sequence, target, rumours } => {
            put_varint(out, *sequence);
            put_varint(out, target.0);
            rumour::encode_all(rumours, out);
            PING_REQUEST
        }
        Message::Ack { sequence, rumours } => {
            put_varint(out, *sequence);
            rumour::encode_all(rumours, out);
            ACK
        }
        Message::Nack { sequence } => {
            put_varint(out, *sequence);
            NACK
        }
        Message::News { rumours } => {
            rumour::encode_all(rumours, out);
            NEWS
        }
        Message::Exchange { asks, rumours } => {
            out.push(u8::from(*asks));
            rumour::encode_all(rumours, out);
            EXCHANGE
        }
        Message::Describe { tag, epoch, key } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            put_prefixed(out, key.as_bytes());
            DESCRIBE
        }
        Message::Described { tag, outcome } => {
            put_varint(out, *tag);
            match outcome {
                Ok(sight) => {
                    out.push(0);
                    sight::encode(sight, out);
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            DESCRIBED
        }
        Message::Scan { tag, epoch, from, until, keys_max, bytes_max, digests } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            put_prefixed(out, from);
            put_prefixed(out, until.as_deref().unwrap_or_default());
            put_varint(out, u64::from(*keys_max));
            put_varint(out, u64::from(*bytes_max));
            out.push(if *digests { DIGEST } else { 0 });
            SCAN
        }
        Message::Listed { tag, outcome } => {
            put_varint(out, *tag);
            match outcome {
                Ok(listing) => {
                    out.push(0);
                    scan::encode(listing, out);
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            LISTED
        }
        Message::Together(parts) => {
            for part in parts {
                put_message(part, &mut Vec::new(), out);
            }
            TOGETHER
        }
        Message::RepairAsk { tag, epoch, place, question } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            repair::encode_question(*place, question, out);
            REPAIR_ASK
        }
        Message::RepairAnswer { tag, answer } => {
            put_varint(out, *tag);
            match answer {
                Ok(answer) => {
                    out.push(0);
                    repair::encode_answer(answer, out);
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            REPAIR_ANSWER
        }
        Message::FloorAsk { tag, epoch, place, step } => {
            put_varint(out, *tag);
            put_varint(out, *epoch);
            floor::encode_step(*place, step, out);
            FLOOR_ASK
        }
        Message::FloorTold { tag, answer } => {
            put_varint(out, *tag);
            match answer {
                Ok(answer) => {
                    out.push(0);
                    floor::encode_answer(answer, out);
                }
                Err(refusal) => encode_refusal(*refusal, out),
            }
            FLOOR_TOLD
        }
    }
}

/// Reads the body of a message, or returns `None` when the kind is not known.
pub(super) fn decode(kind: u8, body: &Bytes) -> Result<Option<Message>, DecodeError> {
    let mut reader = Reader::new(body);
    let reader = &mut reader;
    Ok(Some(match kind {
        HELLO => Message::Hello { nonce: reader.u64()?, catalog_version: reader.varint32()?, address: text(reader)? },
        HELLO_REPLY => {
            Message::HelloReply { nonce: reader.u64()?, own_nonce: reader.u64()?, catalog_version: reader.varint32()? }
        }
        UNWELCOME => Message::Unwelcome {
            nonce: reader.u64()?,
            reason: match reader.u8()? {
                1 => Unwelcome::OtherIncarnation,
                2 => Unwelcome::RolledBack,
                3 => Unwelcome::Stranger,
                _ => return Err(reader.error("unknown reason of an unwelcome")),
            },
        },
        REPLACE => Message::Replace { nonce: reader.u64()? },
        FOUND => Message::Found(Box::new(Founding::decode(reader)?)),
        CATALOG_PUSH => {
            let after = reader.varint32()?;
            let count = reader.count(8)?;
            let mut tables = Vec::with_capacity(count);
            for _ in 0..count {
                tables.push(Arc::new(TableSchema::decode(reader)?));
            }
            Message::CatalogPush { after, tables }
        }
        CATALOG_HAVE => Message::CatalogHave { version: reader.varint32()? },
        CREATE_TABLE => {
            Message::CreateTable { tag: reader.varint()?, name: text(reader)?, options: decode_options(reader)? }
        }
        TABLE_CREATED => Message::TableCreated { tag: reader.varint()?, outcome: outcome::decode_created(reader)? },
        FORWARD => Message::Forward {
            tag: reader.varint()?,
            settled_below: reader.varint()?,
            time_left: Millis(reader.varint()?),
            put: Box::new(decode_put(body, reader)?),
        },
        FORWARD_UPDATE => Message::ForwardUpdate {
            tag: reader.varint()?,
            settled_below: reader.varint()?,
            time_left: Millis(reader.varint()?),
            modify: Box::new(update::decode(body, reader)?),
        },
        FORWARDED => Message::Forwarded { tag: reader.varint()?, outcome: outcome::decode_written(body, reader)? },
        WRITE => Message::Write {
            tag: reader.varint()?,
            epoch: reader.varint()?,
            key: decode_key(body, reader)?,
            record: rest(body, reader),
        },
        WRITE_REPLY => Message::WriteReply { tag: reader.varint()?, refused: decode_refusal(reader)? },
        KEEP => Message::Keep {
            tag: reader.varint()?,
            epoch: reader.varint()?,
            target: NodeId(reader.varint()?),
            key: decode_key(body, reader)?,
            record: rest(body, reader),
        },
        KEPT => {
            Message::Kept { tag: reader.varint()?, target: NodeId(reader.varint()?), refused: decode_refusal(reader)? }
        }
        READ => Message::Read {
            tag: reader.varint()?,
            epoch: reader.varint()?,
            key: decode_key(body, reader)?,
            digest: reader.remaining() > 0 && reader.u8()? & DIGEST != 0,
        },
        DIGEST_REPLY => Message::DigestReply {
            tag: reader.varint()?,
            outcome: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(u128::from_le_bytes(reader.array()?)),
            },
        },
        READ_REPLY => Message::ReadReply {
            tag: reader.varint()?,
            outcome: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                // No record is empty, so no bytes stand for no record.
                None => Ok(Some(rest(body, reader)).filter(|record| !record.is_empty())),
            },
        },
        PING => Message::Ping { sequence: reader.varint()?, rumours: rumour::decode_all(reader)? },
        PING_REQUEST => Message::PingRequest {
            sequence: reader.varint()?,
            target: NodeId(reader.varint()?),
            rumours: rumour::decode_all(reader)?,
        },
        ACK => Message::Ack { sequence: reader.varint()?, rumours: rumour::decode_all(reader)? },
        NACK => Message::Nack { sequence: reader.varint()? },
        NEWS => Message::News { rumours: rumour::decode_all(reader)? },
        EXCHANGE => Message::Exchange {
            asks: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(reader.error("neither asked nor answered")),
            },
            rumours: rumour::decode_all(reader)?,
        },
        DESCRIBE => {
            Message::Describe { tag: reader.varint()?, epoch: reader.varint()?, key: decode_key(body, reader)? }
        }
        DESCRIBED => Message::Described {
            tag: reader.varint()?,
            outcome: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(Box::new(sight::decode(reader)?)),
            },
        },
        SCAN => {
            let (tag, epoch) = (reader.varint()?, reader.varint()?);
            let (from, until) = decode_range(reader)?;
            let (keys_max, bytes_max) = (reader.varint32()?, reader.varint32()?);
            Message::Scan { tag, epoch, from, until, keys_max, bytes_max, digests: reader.u8()? & DIGEST != 0 }
        }
        LISTED => Message::Listed {
            tag: reader.varint()?,
            outcome: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(scan::decode(body, reader)?),
            },
        },
        TOGETHER => Message::Together(together::decode(body, reader)?),
        REPAIR_ASK => {
            let (tag, epoch) = (reader.varint()?, reader.varint()?);
            let (place, question) = repair::decode_question(body, reader)?;
            Message::RepairAsk { tag, epoch, place, question }
        }
        REPAIR_ANSWER => Message::RepairAnswer {
            tag: reader.varint()?,
            answer: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(repair::decode_answer(body, reader)?),
            },
        },
        FLOOR_ASK => {
            let (tag, epoch) = (reader.varint()?, reader.varint()?);
            let (place, step) = floor::decode_step(reader)?;
            Message::FloorAsk { tag, epoch, place, step }
        }
        FLOOR_TOLD => Message::FloorTold {
            tag: reader.varint()?,
            answer: match decode_refusal(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(floor::decode_answer(reader)?),
            },
        },
        _ => return Ok(None),
    }))
}

fn encode_answer(refused: Option<Refusal>, out: &mut Vec<u8>) {
    match refused {
        None => out.push(0),
        Some(refusal) => encode_refusal(refusal, out),
    }
}

fn encode_refusal(refusal: Refusal, out: &mut Vec<u8>) {
    match refusal {
        Refusal::Fenced { epoch } => {
            out.push(1);
            put_varint(out, epoch);
        }
        Refusal::UnknownTable => out.push(2),
        Refusal::NotReplica => out.push(3),
        Refusal::NotServing => out.push(4),
        Refusal::Damaged => out.push(5),
        Refusal::Full => out.push(64),
        Refusal::Overloaded { retry_after } => {
            out.push(6);
            put_varint(out, retry_after.0);
        }
        Refusal::Importing => out.push(80),
        Refusal::Early => out.push(65),
        Refusal::BelowFloor => out.push(96),
    }
}

fn decode_refusal(reader: &mut Reader<'_>) -> Result<Option<Refusal>, DecodeError> {
    Ok(Some(match reader.u8()? {
        0 => return Ok(None),
        1 => Refusal::Fenced { epoch: reader.varint()? },
        2 => Refusal::UnknownTable,
        3 => Refusal::NotReplica,
        4 => Refusal::NotServing,
        5 => Refusal::Damaged,
        64 => Refusal::Full,
        6 => Refusal::Overloaded { retry_after: Millis(reader.varint()?) },
        80 => Refusal::Importing,
        65 => Refusal::Early,
        96 => Refusal::BelowFloor,
        _ => return Err(reader.error("unknown refusal")),
    }))
}

const HAS_VALUE: u8 = 1;
const HAS_CONTEXT: u8 = 2;
const HAS_TTL: u8 = 4;
const IS_STRICT: u8 = 8;

fn encode_put(put: &Put, out: &mut Vec<u8>) {
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

fn decode_put(body: &Bytes, reader: &mut Reader<'_>) -> Result<Put, DecodeError> {
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

pub(super) fn decode_key(body: &Bytes, reader: &mut Reader<'_>) -> Result<RecordKey, DecodeError> {
    RecordKey::from_bytes(prefixed(body, reader, STORE_KEY_BYTES_MAX)?)
}

/// A prefixed run of bytes as a slice of `body`, which `reader` reads.
pub(super) fn prefixed(body: &Bytes, reader: &mut Reader<'_>, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let length = reader.prefixed(bytes_max)?.len();
    Ok(body.slice(reader.offset() - length..reader.offset()))
}

fn rest(body: &Bytes, reader: &mut Reader<'_>) -> Bytes {
    let start = reader.offset();
    reader.rest();
    body.slice(start..)
}
