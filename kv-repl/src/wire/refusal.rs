//! Why a replica did not do what it was asked for.
//!
//! ```text
//! refused := 0 | reason:u8  details
//! ```

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::time::Millis;

use crate::message::Refusal;

pub(super) fn encode_answer(refused: Option<Refusal>, out: &mut Vec<u8>) {
    match refused {
        None => out.push(0),
        Some(refusal) => encode(refusal, out),
    }
}

pub(super) fn encode(refusal: Refusal, out: &mut Vec<u8>) {
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

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Option<Refusal>, DecodeError> {
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
