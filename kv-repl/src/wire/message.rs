//! The bodies of messages. The table of kinds and fields in `docs/protocol.md` is checked against this file by a test.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::time::Millis;

use super::fields::{decode_key, rest};
use super::together::{self, put_message};
use super::{floor, outcome, put, refusal, repair, rumour, scan, sight, update};
use crate::catalog::{Founding, TableSchema, decode_options, encode_options, text};
use crate::message::{Message, Unwelcome};
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
const PING: u8 = 32;
const PING_REQUEST: u8 = 33;
const ACK: u8 = 34;
const NACK: u8 = 35;
const NEWS: u8 = 36;
const EXCHANGE: u8 = 37;
const REPAIR_ASK: u8 = 40;
const REPAIR_ANSWER: u8 = 41;
const DIGEST_REPLY: u8 = 56;
const FORWARD_UPDATE: u8 = 64;
pub(super) const TOGETHER: u8 = 72;
const DESCRIBE: u8 = 73;
const DESCRIBED: u8 = 74;
const SCAN: u8 = 76;
const LISTED: u8 = 77;
const REPLACE: u8 = 80;
const KEEP: u8 = 88;
const KEPT: u8 = 89;
const FLOOR_ASK: u8 = 96;
const FLOOR_TOLD: u8 = 97;

/// Flag of a read: a digest is enough.
const DIGEST: u8 = 1;

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
            put::encode(put, out);
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
            refusal::encode_answer(*refused, out);
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
            refusal::encode_answer(*refused, out);
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
                Err(refusal) => refusal::encode(*refusal, out),
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
                Err(refusal) => refusal::encode(*refusal, out),
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
                Err(refusal) => refusal::encode(*refusal, out),
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
                Err(refusal) => refusal::encode(*refusal, out),
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
                Err(refusal) => refusal::encode(*refusal, out),
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
                Err(refusal) => refusal::encode(*refusal, out),
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
            put: Box::new(put::decode(body, reader)?),
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
        WRITE_REPLY => Message::WriteReply { tag: reader.varint()?, refused: refusal::decode(reader)? },
        KEEP => Message::Keep {
            tag: reader.varint()?,
            epoch: reader.varint()?,
            target: NodeId(reader.varint()?),
            key: decode_key(body, reader)?,
            record: rest(body, reader),
        },
        KEPT => {
            Message::Kept { tag: reader.varint()?, target: NodeId(reader.varint()?), refused: refusal::decode(reader)? }
        }
        READ => Message::Read {
            tag: reader.varint()?,
            epoch: reader.varint()?,
            key: decode_key(body, reader)?,
            digest: reader.remaining() > 0 && reader.u8()? & DIGEST != 0,
        },
        DIGEST_REPLY => Message::DigestReply {
            tag: reader.varint()?,
            outcome: match refusal::decode(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(u128::from_le_bytes(reader.array()?)),
            },
        },
        READ_REPLY => Message::ReadReply {
            tag: reader.varint()?,
            outcome: match refusal::decode(reader)? {
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
            outcome: match refusal::decode(reader)? {
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
            outcome: match refusal::decode(reader)? {
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
            answer: match refusal::decode(reader)? {
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
            answer: match refusal::decode(reader)? {
                Some(refusal) => Err(refusal),
                None => Ok(floor::decode_answer(reader)?),
            },
        },
        _ => return Ok(None),
    }))
}
