//! Steps of a replica that leads a place to a higher floor, and what it is answered.
//!
//! ```text
//! step   := 1 up to:u64 level (promise) | 2 level (raise)                                         the number is a u8
//! told   := 1 lives:u64 (promised) | 2 able:u64 (no more than) | 3 level (unequal) | 4 clock:u64 (raised)
//! level  := settled:u64  purged:u64
//! ```

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::hlc::Stamp;
use kv_core::key::TableId;
use kv_ring::PartitionId;

use crate::comparison::{FloorAnswer, FloorStep, Level, Place};

const PROMISE: u8 = 1;
const RAISE: u8 = 2;

const PROMISED: u8 = 1;
const ABLE: u8 = 2;
const UNEQUAL: u8 = 3;
const RAISED: u8 = 4;

pub(super) fn encode_step(place: Place, step: &FloorStep, out: &mut Vec<u8>) {
    put_varint(out, u64::from(place.table.0));
    put_varint(out, u64::from(place.partition.0));
    match step {
        FloorStep::Promise { up_to, level } => {
            out.push(PROMISE);
            out.extend_from_slice(&up_to.0.to_le_bytes());
            encode_level(*level, out);
        }
        FloorStep::Raise(level) => {
            out.push(RAISE);
            encode_level(*level, out);
        }
    }
}

pub(super) fn decode_step(reader: &mut Reader<'_>) -> Result<(Place, FloorStep), DecodeError> {
    let place = Place { table: TableId(reader.varint32()?), partition: PartitionId(reader.varint32()?) };
    let step = match reader.u8()? {
        PROMISE => FloorStep::Promise { up_to: Stamp(reader.u64()?), level: decode_level(reader)? },
        RAISE => FloorStep::Raise(decode_level(reader)?),
        _ => return Err(reader.error("unknown step towards a floor")),
    };
    Ok((place, step))
}

pub(super) fn encode_answer(answer: &FloorAnswer, out: &mut Vec<u8>) {
    let (kind, number) = match answer {
        FloorAnswer::Promised { lives } => (PROMISED, *lives),
        FloorAnswer::Able(able) => (ABLE, able.0),
        FloorAnswer::Raised { clock } => (RAISED, clock.0),
        FloorAnswer::Unequal(level) => {
            out.push(UNEQUAL);
            return encode_level(*level, out);
        }
    };
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn decode_answer(reader: &mut Reader<'_>) -> Result<FloorAnswer, DecodeError> {
    Ok(match reader.u8()? {
        PROMISED => FloorAnswer::Promised { lives: reader.u64()? },
        ABLE => FloorAnswer::Able(Stamp(reader.u64()?)),
        UNEQUAL => FloorAnswer::Unequal(decode_level(reader)?),
        RAISED => FloorAnswer::Raised { clock: Stamp(reader.u64()?) },
        _ => return Err(reader.error("unknown answer to a step towards a floor")),
    })
}

fn encode_level(level: Level, out: &mut Vec<u8>) {
    out.extend_from_slice(&level.settled.0.to_le_bytes());
    out.extend_from_slice(&level.purged.0.to_le_bytes());
}

fn decode_level(reader: &mut Reader<'_>) -> Result<Level, DecodeError> {
    let level = Level { settled: Stamp(reader.u64()?), purged: Stamp(reader.u64()?) };
    if level.settled < level.purged { Err(reader.error("purged above what is settled")) } else { Ok(level) }
}
