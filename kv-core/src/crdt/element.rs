//! What keys and values of the replicated data types must be able to do.

use std::fmt::Debug;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, put_prefixed, put_varint};
use crate::hlc::Stamp;
use crate::limits::VALUE_BYTES_MAX;

/// A key or a value inside a replicated data type: ordered, so that equal states have equal bytes, and with one encoding.
pub trait Element: Clone + Ord + Debug {
    /// Appends the encoding. Equal elements have equal bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads what [`Element::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not an element in its one encoding.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Nothing: the value of an element of a set.
impl Element for () {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Element for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.error("neither true nor false")),
        }
    }
}

impl Element for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, *self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.varint()
    }
}

/// A varint of the number folded about zero (0, -1, 1, -2, …), so that small numbers of either sign are short.
impl Element for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, ((self << 1) ^ (self >> 63)).cast_unsigned());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let folded = reader.varint()?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }
}

impl Element for Stamp {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(reader.u64()?))
    }
}

impl Element for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        put_prefixed(out, self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.prefixed(VALUE_BYTES_MAX).map(Self::copy_from_slice)
    }
}

impl Element for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_prefixed(out, self.as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = reader.prefixed(VALUE_BYTES_MAX)?;
        std::str::from_utf8(text).map(Self::from).map_err(|_| reader.error("not UTF-8"))
    }
}

impl<A: Element, B: Element> Element for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}
