//! Fields that more than one kind of message has. What is read is a slice of the frame, and nothing is copied.

use bytes::Bytes;
use kv_core::codec::{DecodeError, Reader};
use kv_core::key::RecordKey;
use kv_core::limits::STORE_KEY_BYTES_MAX;

/// A causal context is bounded by what a record may hold; this is far above it.
pub(super) const CONTEXT_BYTES_MAX: usize = 1 << 20;

pub(super) fn decode_key(body: &Bytes, reader: &mut Reader<'_>) -> Result<RecordKey, DecodeError> {
    RecordKey::from_bytes(prefixed(body, reader, STORE_KEY_BYTES_MAX)?)
}

/// A prefixed run of bytes as a slice of `body`, which `reader` reads.
pub(super) fn prefixed(body: &Bytes, reader: &mut Reader<'_>, bytes_max: usize) -> Result<Bytes, DecodeError> {
    let length = reader.prefixed(bytes_max)?.len();
    Ok(body.slice(reader.offset() - length..reader.offset()))
}

pub(super) fn rest(body: &Bytes, reader: &mut Reader<'_>) -> Bytes {
    let start = reader.offset();
    reader.rest();
    body.slice(start..)
}
