//! Questions and answers of replicas that compare what they hold.
//!
//! ```text
//! place    := table:varint  partition:varint
//! question := 1 count:varint (branch  hash:u128)*  | 2 branch after | 3 branch after count:varint name:u64* | 4 records   (the number is a u8)
//! answer   := 0 working | 1 count:varint (position:varint  records:varint)* [settled:u64] | 2 after count:varint (name:u64  state:u64)*
//!           | 3 records | 4 count:varint position:varint*
//! branch   := depth:u8  index:varint
//! after    := key:prefixed, empty for none
//! records  := count:varint (key:prefixed  record:prefixed)*
//! ```

use bytes::Bytes;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_core::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};
use kv_ring::PartitionId;

use super::fields::{decode_key, prefixed};
use crate::comparison::{Answer, Branch, Differing, Entry, Page, Place, Question};

const COMPARE: u8 = 1;
const LIST: u8 = 2;
const FETCH: u8 = 3;
const JOIN: u8 = 4;

const WORKING: u8 = 0;
const DIFFER: u8 = 1;
const PAGE: u8 = 2;
const RECORDS: u8 = 3;
const JOINED: u8 = 4;

pub(super) fn encode_question(place: Place, question: &Question, out: &mut Vec<u8>) {
    put_varint(out, u64::from(place.table.0));
    put_varint(out, u64::from(place.partition.0));
    match question {
        Question::Compare(branches) => {
            out.push(COMPARE);
            put_varint(out, branches.len() as u64);
            for (branch, hash) in branches {
                encode_branch(*branch, out);
                out.extend_from_slice(&hash.to_le_bytes());
            }
        }
        Question::List { branch, after } => {
            out.push(LIST);
            encode_branch(*branch, out);
            encode_after(after.as_ref(), out);
        }
        Question::Fetch { branch, after, keys } => {
            out.push(FETCH);
            encode_branch(*branch, out);
            encode_after(after.as_ref(), out);
            put_varint(out, keys.len() as u64);
            keys.iter().for_each(|key| out.extend_from_slice(&key.to_le_bytes()));
        }
        Question::Join(records) => {
            out.push(JOIN);
            encode_records(records, out);
        }
    }
}

pub(super) fn decode_question(body: &Bytes, reader: &mut Reader<'_>) -> Result<(Place, Question), DecodeError> {
    let place = Place { table: TableId(reader.varint32()?), partition: PartitionId(reader.varint32()?) };
    let question = match reader.u8()? {
        COMPARE => {
            let count = reader.count(18)?;
            let mut branches = Vec::with_capacity(count);
            for _ in 0..count {
                branches.push((decode_branch(reader)?, u128::from_le_bytes(reader.array()?)));
            }
            Question::Compare(branches)
        }
        LIST => Question::List { branch: decode_branch(reader)?, after: decode_after(body, reader)? },
        FETCH => {
            let (branch, after) = (decode_branch(reader)?, decode_after(body, reader)?);
            let count = reader.count(8)?;
            let keys = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
            Question::Fetch { branch, after, keys }
        }
        JOIN => Question::Join(decode_records(body, reader)?),
        _ => return Err(reader.error("unknown question")),
    };
    Ok((place, question))
}

pub(super) fn encode_answer(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Working => out.push(WORKING),
        Answer::Differ { differing, settled } => {
            out.push(DIFFER);
            put_varint(out, differing.len() as u64);
            for Differing { position, records } in differing {
                put_varint(out, u64::from(*position));
                put_varint(out, *records);
            }
            if *settled > Stamp::ZERO {
                out.extend_from_slice(&settled.0.to_le_bytes());
            }
        }
        Answer::List(Page { entries, end }) => {
            out.push(PAGE);
            encode_after(end.as_ref(), out);
            put_varint(out, entries.len() as u64);
            for Entry { key, state } in entries {
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&state.to_le_bytes());
            }
        }
        Answer::Records(records) => {
            out.push(RECORDS);
            encode_records(records, out);
        }
        Answer::Joined(positions) => {
            out.push(JOINED);
            put_varint(out, positions.len() as u64);
            positions.iter().for_each(|position| put_varint(out, u64::from(*position)));
        }
    }
}

pub(super) fn decode_answer(body: &Bytes, reader: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    Ok(match reader.u8()? {
        WORKING => Answer::Working,
        DIFFER => {
            let count = reader.count(2)?;
            let mut differing = Vec::with_capacity(count);
            for _ in 0..count {
                differing.push(Differing { position: reader.varint32()?, records: reader.varint()? });
            }
            let settled = if reader.remaining() == 0 { Stamp::ZERO } else { Stamp(reader.u64()?) };
            Answer::Differ { differing, settled }
        }
        PAGE => {
            let end = decode_after(body, reader)?;
            let count = reader.count(16)?;
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(Entry { key: reader.u64()?, state: reader.u64()? });
            }
            Answer::List(Page { entries, end })
        }
        RECORDS => Answer::Records(decode_records(body, reader)?),
        JOINED => {
            let count = reader.count(1)?;
            Answer::Joined((0..count).map(|_| reader.varint32()).collect::<Result<_, _>>()?)
        }
        _ => return Err(reader.error("unknown answer")),
    })
}

fn encode_branch(branch: Branch, out: &mut Vec<u8>) {
    out.push(branch.depth());
    put_varint(out, branch.index());
}

fn decode_branch(reader: &mut Reader<'_>) -> Result<Branch, DecodeError> {
    let (depth, index) = (reader.u8()?, reader.varint()?);
    Branch::new(depth, index).ok_or_else(|| reader.error("a branch that no tree has"))
}

fn encode_after(after: Option<&RecordKey>, out: &mut Vec<u8>) {
    put_prefixed(out, after.map_or(&[], |key| &key.as_bytes()[..]));
}

fn decode_after(body: &Bytes, reader: &mut Reader<'_>) -> Result<Option<RecordKey>, DecodeError> {
    let key = prefixed(body, reader, STORE_KEY_BYTES_MAX)?;
    if key.is_empty() { Ok(None) } else { RecordKey::from_bytes(key).map(Some) }
}

fn encode_records(records: &[(RecordKey, Bytes)], out: &mut Vec<u8>) {
    put_varint(out, records.len() as u64);
    for (key, record) in records {
        put_prefixed(out, key.as_bytes());
        put_prefixed(out, record);
    }
}

fn decode_records(body: &Bytes, reader: &mut Reader<'_>) -> Result<Vec<(RecordKey, Bytes)>, DecodeError> {
    let count = reader.count(2)?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.push((decode_key(body, reader)?, prefixed(body, reader, STORE_VALUE_BYTES_MAX)?));
    }
    Ok(records)
}
