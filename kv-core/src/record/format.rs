//! The bytes of a record: the same on the wire, in the log and in the table.
//!
//! ```text
//! record   := format:u8 (1)  rule:u8 (1 siblings, 2 last write wins, 3 crdt)  header bytes:varint  header  payloads
//! header   := siblings:        version vector  count:varint  entry*      (entries in the order of dots)
//!             last write wins: count:varint (0 or 1)  [actor fields]     (the counter is the birth)
//!             crdt:            birth:u64  version vector
//! entry    := index of the actor in the version vector:varint  counter:varint  fields
//! fields   := birth:u64  flags:u8  [expiry ms:varint]  [operation:u128]  [payload bytes:varint]
//! flags    := 1 value (else tombstone) | 2 has an expiry | 4 has an operation
//! payloads := the bytes of the values, in the order of their entries; or the crdt (see `crdt/any.rs`)
//! ```
//!
//! The header comes first and says its length, so that whoever only compares versions need not touch the values.

use bytes::Bytes;

use super::{Body, OperationId, Payload, Record, Version};
use crate::codec::{DecodeError, Reader, put_varint};
use crate::crdt::Dotted;
use crate::expiry::Expiry;
use crate::hlc::Stamp;
use crate::time::Millis;
use crate::version::{Actor, Dot, DottedVersionSet, VersionVector};

const FORMAT: u8 = 1;
const SIBLINGS: u8 = 1;
const LAST_WRITE_WINS: u8 = 2;
const CRDT: u8 = 3;

const FLAG_VALUE: u8 = 1;
const FLAG_EXPIRY: u8 = 2;
const FLAG_OPERATION: u8 = 4;

/// Room for all but the values of a record of one version.
const USUAL_HEADER_BYTES: usize = 64;

/// Fewest bytes of an entry: index, counter, birth, flags.
const ENTRY_BYTES_MIN: usize = 1 + 1 + 8 + 1;

impl Record {
    /// Appends the encoding. Equal records have equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.push(match &self.body {
            Body::Siblings(_) => SIBLINGS,
            Body::LastWrite(_) => LAST_WRITE_WINS,
            Body::Crdt(..) => CRDT,
        });
        // How long the header is shows when it is there; mostly, that fits the one byte which is kept free for it.
        let length_at = out.len();
        out.push(0);
        self.encode_header(out);
        let header_bytes = out.len() - length_at - 1;
        match u8::try_from(header_bytes) {
            Ok(length) if length < 0x80 => out[length_at] = length,
            _ => {
                let mut length = Vec::new();
                put_varint(&mut length, header_bytes as u64);
                out.splice(length_at..=length_at, length);
            }
        }
        if let Body::Crdt(_, state) = &self.body {
            state.encode_value(out);
        }
        for (_, version) in self.versions() {
            if let Payload::Value(value) = &version.payload {
                out.extend_from_slice(value);
            }
        }
    }

    fn encode_header(&self, header: &mut Vec<u8>) {
        match &self.body {
            Body::Siblings(set) => {
                set.context().encode(header);
                put_varint(header, set.versions().len() as u64);
                let mut actors = ActorIndex::new(set.context());
                for (dot, version) in set.versions() {
                    put_varint(header, actors.index_of(dot.actor));
                    put_varint(header, dot.counter);
                    encode_fields(version, header);
                }
            }
            Body::LastWrite(set) => {
                put_varint(header, set.versions().len() as u64);
                for (dot, version) in set.versions() {
                    dot.actor.encode(header);
                    encode_fields(version, header);
                }
            }
            Body::Crdt(birth, state) => {
                header.extend_from_slice(&birth.0.to_le_bytes());
                state.context().encode(header);
            }
        }
    }

    /// The encoding in a buffer of its own.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let values = self.versions().iter().map(|(_, version)| match &version.payload {
            Payload::Value(value) => value.len(),
            Payload::Tombstone => 0,
        });
        let mut out = Vec::with_capacity(USUAL_HEADER_BYTES + values.sum::<usize>());
        self.encode(&mut out);
        out.into()
    }

    /// Reads what [`Record::encode`] wrote. Values are slices of `bytes`, without a copy.
    ///
    /// # Errors
    /// When the bytes are not a record.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of record"));
        }
        let rule = reader.u8()?;
        let header_bytes = reader.count(1)?;
        let mut values = Values { bytes, at: reader.offset() + header_bytes };
        let mut header = Reader::new(reader.bytes(header_bytes)?);
        let body = match rule {
            SIBLINGS => Body::Siblings(decode_siblings(&mut header, &mut values)?),
            LAST_WRITE_WINS => Body::LastWrite(decode_last_write(&mut header, &mut values)?),
            CRDT => {
                let birth = Stamp(header.u64()?);
                let context = VersionVector::decode(&mut header)?;
                let state = Dotted::decode_value(&mut reader, context)?;
                values.at = reader.offset();
                Body::Crdt(birth, state)
            }
            _ => return Err(DecodeError { offset: 1, what: "unknown conflict rule" }),
        };
        header.finish()?;
        if values.at != bytes.len() {
            return Err(DecodeError { offset: values.at, what: "bytes left over after the values" });
        }
        Ok(Self { body })
    }

    /// The front of an encoded record: all of it but the values of its versions. Two states of one key with equal fronts are
    /// equal, because a dot names one version.
    ///
    /// A data type is all front: what a replica has seen of it need not name its state, because a change says what it replaces
    /// and not what that had replaced, and the change in between may not have arrived.
    ///
    /// # Errors
    /// When `bytes` do not begin like a record.
    pub fn header_of(bytes: &[u8]) -> Result<&[u8], DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of record"));
        }
        let rule = reader.u8()?;
        let header_bytes = reader.count(1)?;
        reader.bytes(header_bytes)?;
        Ok(if rule == CRDT { bytes } else { &bytes[..reader.offset()] })
    }

    /// What [`Record::dead_at`] says of the record that `bytes` are, without looking at its values.
    ///
    /// # Errors
    /// When the front of `bytes` is not that of a record.
    pub fn dead_at_of(bytes: &[u8]) -> Result<Option<Stamp>, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of record"));
        }
        let rule = reader.u8()?;
        let header_bytes = reader.count(1)?;
        let mut header = Reader::new(reader.bytes(header_bytes)?);
        if rule == CRDT {
            return Ok(None);
        }
        if rule == SIBLINGS {
            VersionVector::decode(&mut header)?;
        }
        let mut least = None;
        for _ in 0..header.varint()? {
            if rule == SIBLINGS {
                header.varint()?;
                header.varint()?;
            } else {
                Actor::decode(&mut header)?;
            }
            let dead_at = skip_fields(&mut header)?;
            least = least.into_iter().chain(dead_at).min();
        }
        Ok(least)
    }

    /// What the last-write-wins record that `bytes` are is compared by: when it was written, whether it is a delete, and who wrote it.
    /// Nothing when it is of another rule, or holds nothing, or is damaged.
    pub(super) fn last_write_of(bytes: &[u8]) -> Option<(Stamp, bool, Actor)> {
        let mut reader = Reader::new(bytes);
        if reader.u8().ok()? != FORMAT || reader.u8().ok()? != LAST_WRITE_WINS {
            return None;
        }
        let header_bytes = reader.count(1).ok()?;
        let mut header = Reader::new(reader.bytes(header_bytes).ok()?);
        if header.varint().ok()? != 1 {
            return None;
        }
        let actor = Actor::decode(&mut header).ok()?;
        let birth = Stamp(header.u64().ok()?);
        let flags = header.u8().ok()?;
        if birth == Stamp::ZERO || flags & !(FLAG_VALUE | FLAG_EXPIRY | FLAG_OPERATION) != 0 {
            return None;
        }
        if flags & FLAG_EXPIRY != 0 {
            header.varint().ok()?;
        }
        if flags & FLAG_OPERATION != 0 {
            header.bytes(size_of::<u128>()).ok()?;
        }
        let is_value = flags & FLAG_VALUE != 0;
        let value_bytes = if is_value { usize::try_from(header.varint().ok()?).ok()? } else { 0 };
        header.finish().ok()?;
        (reader.remaining() == value_bytes).then_some((birth, !is_value, actor))
    }

    /// [`Record::decode`] for borrowed bytes, with one copy.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(&Bytes::copy_from_slice(bytes))
    }
}

fn encode_fields(version: &Version, header: &mut Vec<u8>) {
    header.extend_from_slice(&version.birth.0.to_le_bytes());
    let is_value = matches!(version.payload, Payload::Value(_));
    header.push(
        if is_value { FLAG_VALUE } else { 0 }
            | if version.expiry.time().is_some() { FLAG_EXPIRY } else { 0 }
            | if version.operation.is_some() { FLAG_OPERATION } else { 0 },
    );
    if let Some(at) = version.expiry.time() {
        put_varint(header, at.0);
    }
    if let Some(operation) = version.operation {
        header.extend_from_slice(&operation.0.to_le_bytes());
    }
    if let Payload::Value(value) = &version.payload {
        put_varint(header, value.len() as u64);
    }
}

fn decode_fields(header: &mut Reader<'_>, values: &mut Values<'_>) -> Result<Version, DecodeError> {
    let birth = Stamp(header.u64()?);
    let flags = header.u8()?;
    if flags & !(FLAG_VALUE | FLAG_EXPIRY | FLAG_OPERATION) != 0 {
        return Err(header.error("unknown flags of a version"));
    }
    let expiry = if flags & FLAG_EXPIRY == 0 { Expiry::NEVER } else { Expiry::at(Millis(header.varint()?)) };
    let operation =
        if flags & FLAG_OPERATION == 0 { None } else { Some(OperationId(u128::from_le_bytes(header.array()?))) };
    let payload = if flags & FLAG_VALUE == 0 {
        Payload::Tombstone
    } else {
        let length = usize::try_from(header.varint()?).unwrap_or(usize::MAX);
        Payload::Value(values.take(length)?)
    };
    Ok(Version { birth, payload, expiry, operation })
}

/// Reads over the fields of a version, and says from which floor on it is dead.
fn skip_fields(header: &mut Reader<'_>) -> Result<Option<Stamp>, DecodeError> {
    let birth = Stamp(header.u64()?);
    let flags = header.u8()?;
    let expiry = if flags & FLAG_EXPIRY == 0 { None } else { Some(Millis(header.varint()?)) };
    if flags & FLAG_OPERATION != 0 {
        header.bytes(size_of::<u128>())?;
    }
    if flags & FLAG_VALUE == 0 {
        return Ok(Some(birth));
    }
    header.varint()?;
    Ok(expiry.map(|at| birth.max(Stamp::at(at))))
}

fn decode_siblings(header: &mut Reader<'_>, values: &mut Values<'_>) -> Result<DottedVersionSet<Version>, DecodeError> {
    let context = VersionVector::decode(header)?;
    let actors: Vec<Actor> = context.spans().chunk_by(|a, b| a.actor == b.actor).map(|run| run[0].actor).collect();
    let count = header.count(ENTRY_BYTES_MIN)?;
    let mut versions = Vec::with_capacity(count);
    for _ in 0..count {
        let index = usize::try_from(header.varint()?).unwrap_or(usize::MAX);
        let actor = *actors.get(index).ok_or_else(|| header.error("index of an actor"))?;
        let dot = Dot { actor, counter: header.varint()? };
        versions.push((dot, decode_fields(header, values)?));
    }
    let misfit = header.error("versions out of order or outside the context");
    DottedVersionSet::from_parts(context, versions).ok_or(misfit)
}

fn decode_last_write(
    header: &mut Reader<'_>,
    values: &mut Values<'_>,
) -> Result<DottedVersionSet<Version>, DecodeError> {
    match header.varint()? {
        0 => Ok(DottedVersionSet::new()),
        1 => {
            let actor = Actor::decode(header)?;
            let version = decode_fields(header, values)?;
            if version.birth == Stamp::ZERO {
                return Err(header.error("a write without a stamp"));
            }
            let dot = Dot { actor, counter: version.birth.0 };
            let set = DottedVersionSet::from_parts(VersionVector::of(dot), vec![(dot, version)]);
            Ok(set.expect("the context was made of the dot"))
        }
        _ => Err(header.error("more than one last write")),
    }
}

/// Hands out the values behind the header, front to back.
struct Values<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Values<'_> {
    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        match self.at.checked_add(length) {
            Some(end) if end <= self.bytes.len() => {
                let value = self.bytes.slice(self.at..end);
                self.at = end;
                Ok(value)
            }
            _ => Err(DecodeError { offset: self.at, what: "a value longer than what is there" }),
        }
    }
}

/// Finds the index of each actor in a version vector, for actors asked for in ascending order.
struct ActorIndex<'a> {
    context: &'a VersionVector,
    span: usize,
    index: u64,
}

impl<'a> ActorIndex<'a> {
    const fn new(context: &'a VersionVector) -> Self {
        Self { context, span: 0, index: 0 }
    }

    fn index_of(&mut self, actor: Actor) -> u64 {
        let spans = self.context.spans();
        while spans[self.span].actor != actor {
            self.span += 1;
            if spans[self.span].actor != spans[self.span - 1].actor {
                self.index += 1;
            }
        }
        self.index
    }
}
