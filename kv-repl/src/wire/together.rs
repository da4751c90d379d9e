//! Messages one after the other: in a frame, and within one that holds several.
//!
//! ```text
//! message := kind:u8  body bytes:varint  body
//! ```

use bytes::Bytes;
use kv_core::codec::{DecodeError, Reader, put_prefixed};

use super::message::{self, TOGETHER};
use crate::message::Message;

/// Appends a message with its kind and length. `scratch` is overwritten.
pub(super) fn put_message(message: &Message, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    out.push(message::encode(message, scratch));
    put_prefixed(out, scratch);
}

/// Reads the next message of those in `bytes`, or `None` when its kind is not known.
pub(super) fn next_message(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Option<Message>, DecodeError> {
    let kind = reader.u8()?;
    let length = reader.count(1)?;
    let start = reader.offset();
    reader.bytes(length)?;
    message::decode(kind, &bytes.slice(start..start + length))
}

/// Those of unknown kinds are skipped: whoever waits for an answer to one asks again.
pub(super) fn decode(body: &Bytes, reader: &mut Reader<'_>) -> Result<Vec<Message>, DecodeError> {
    let mut parts = Vec::new();
    while reader.remaining() > 0 {
        // Looked at before it is read, so that nobody can nest them.
        if body[reader.offset()] == TOGETHER {
            return Err(reader.error("messages together within messages together"));
        }
        match next_message(body, reader)? {
            Some(part) if part.travels_together() => parts.push(part),
            Some(_) => return Err(reader.error("a message that travels alone")),
            None => {}
        }
    }
    Ok(parts)
}
