//! What a replica lists of a range of keys.
//!
//! ```text
//! listing := end:prefixed (empty: that is all)  count:varint  (key:prefixed  (1 record:prefixed | 2 digest:u128))*
//! ```
//! The numbers are u8s.

use bytes::Bytes;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::key::RecordKey;
use kv_core::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};

use super::fields::{decode_key, prefixed};
use crate::scan::listing::{Listed, Listing};

const RECORD: u8 = 1;
const DIGEST: u8 = 2;
/// The least that an entry takes: the length of a key, a key, a number, and the length of a record.
const ENTRY_BYTES_MIN: usize = 1 + 15 + 1 + 1;

pub(super) fn encode(listing: &Listing, out: &mut Vec<u8>) {
    put_prefixed(out, listing.end.as_ref().map_or(&[], |end| &end.as_bytes()[..]));
    put_varint(out, listing.entries.len() as u64);
    for (key, listed) in &listing.entries {
        put_prefixed(out, key.as_bytes());
        match listed {
            Listed::Record(record) => {
                out.push(RECORD);
                put_prefixed(out, record);
            }
            Listed::Digest(digest) => {
                out.push(DIGEST);
                out.extend_from_slice(&digest.to_le_bytes());
            }
        }
    }
}

pub(super) fn decode(body: &Bytes, reader: &mut Reader<'_>) -> Result<Listing, DecodeError> {
    let end = prefixed(body, reader, STORE_KEY_BYTES_MAX)?;
    let end = if end.is_empty() { None } else { Some(RecordKey::from_bytes(end)?) };
    let count = reader.count(ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let key = decode_key(body, reader)?;
        let listed = match reader.u8()? {
            RECORD => Listed::Record(prefixed(body, reader, STORE_VALUE_BYTES_MAX)?),
            DIGEST => Listed::Digest(u128::from_le_bytes(reader.array()?)),
            _ => return Err(reader.error("neither a record nor a digest")),
        };
        entries.push((key, listed));
    }
    Ok(Listing { entries, end })
}
