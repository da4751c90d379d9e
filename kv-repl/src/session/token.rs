//! A session as bytes, so that it can be carried to another process.
//!
//! ```text
//! token := format:u8 (1)  flags:u8 (1 something was forgotten | 2 latest)  [latest: seen]  count:varint  entry*  crc32:u32
//! entry := table:varint  hash:u64 hash:u64  flags:u8 (1 settled | 2 a part)  seen        the one used longest ago first
//! seen  := 1 version vector | 2 actor birth:varint (a value) | 3 actor birth:varint (a tombstone)   (the number is a u8)
//! ```

use bytes::Bytes;
use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::key::TableId;
use thiserror::Error;

use super::state::{Entry, KEYS_MAX, KeyName, SEEN_BYTES_LIMIT, SessionState};
use crate::seen::Seen;

const FORMAT: u8 = 1;
const FORGOT: u8 = 1;
const LATEST: u8 = 2;
const SETTLED: u8 = 1;
const PART: u8 = 2;
const CHECKSUM_BYTES: usize = 4;
/// Format, flags, latest, count and checksum; table, hashes and flag of an entry.
const FRAME_BYTES_MAX: usize = 64;
const ENTRY_BYTES_MAX: usize = 5 + 16 + 1;

/// No token is longer.
pub const TOKEN_BYTES_MAX: usize = FRAME_BYTES_MAX + KEYS_MAX * (ENTRY_BYTES_MAX + SEEN_BYTES_LIMIT);

/// Bytes that are not a session's token.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum InvalidToken {
    /// The bytes are not a token.
    #[error("not a session token: {0}")]
    Malformed(DecodeError),
    /// The checksum does not match.
    #[error("the session token was altered")]
    Altered,
}

impl SessionState {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        out.push(if self.forgot { FORGOT } else { 0 } | if self.latest.is_some() { LATEST } else { 0 });
        if let Some(latest) = self.latest {
            Seen::Last(latest).encode(&mut out);
        }
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.used);
        put_varint(&mut out, entries.len() as u64);
        for (name, entry) in entries {
            put_varint(&mut out, u64::from(name.table.0));
            for hash in name.hash {
                out.extend_from_slice(&hash.to_le_bytes());
            }
            out.push(if entry.settled { SETTLED } else { 0 } | if entry.is_part { PART } else { 0 });
            entry.seen.encode(&mut out);
        }
        let checksum = crc32(&[&out]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.into()
    }

    /// What somebody has who was handed the token.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn carried_over(&self) -> Self {
        let token = self.encode();
        assert!(token.len() <= TOKEN_BYTES_MAX, "a token has its bound");
        Self { room: self.room, ..Self::decode(&token).expect("its own token") }
    }

    pub(crate) fn decode(token: &[u8]) -> Result<Self, InvalidToken> {
        let malformed = |what| InvalidToken::Malformed(DecodeError { offset: token.len(), what });
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("longer than any"));
        }
        let Some(body_bytes) = token.len().checked_sub(CHECKSUM_BYTES) else {
            return Err(malformed("too short"));
        };
        let (body, checksum) = token.split_at(body_bytes);
        if crc32(&[body]).to_le_bytes() != checksum {
            return Err(InvalidToken::Altered);
        }
        parse(body).map_err(InvalidToken::Malformed)
    }
}

fn parse(body: &[u8]) -> Result<SessionState, DecodeError> {
    let mut reader = Reader::new(body);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of session"));
    }
    let flags = reader.u8()?;
    if flags & !(FORGOT | LATEST) != 0 {
        return Err(reader.error("unknown flags of a session"));
    }
    let mut state = SessionState { forgot: flags & FORGOT != 0, ..SessionState::default() };
    if flags & LATEST != 0 {
        state.latest = match Seen::decode(&mut reader)? {
            Seen::Last(latest) => Some(latest),
            Seen::Writes(_) => return Err(reader.error("the latest write of a last-write-wins table")),
        };
    }
    let count = reader.count(ENTRY_BYTES_MAX - 4)?;
    if count > KEYS_MAX {
        return Err(reader.error("number of keys"));
    }
    for _ in 0..count {
        let table = TableId(reader.varint32()?);
        let hash = [reader.u64()?, reader.u64()?];
        let flags = reader.u8()?;
        if flags & !(SETTLED | PART) != 0 {
            return Err(reader.error("unknown flags of a key"));
        }
        let (settled, is_part) = (flags & SETTLED != 0, flags & PART != 0);
        let start = reader.offset();
        let seen = Seen::decode(&mut reader)?;
        if reader.offset() - start > SEEN_BYTES_LIMIT {
            return Err(reader.error("more than a session remembers of a key"));
        }
        state.uses += 1;
        let entry = Entry { seen, settled, is_part, used: state.uses };
        if state.entries.insert(KeyName { table, hash }, entry).is_some() {
            return Err(reader.error("a key twice"));
        }
    }
    reader.finish()?;
    Ok(state)
}
