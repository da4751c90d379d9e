//! Reading an export.

use std::io::{self, Read};

use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader};
use kv_core::time::Millis;
use kv_lsm::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use thiserror::Error;

use super::{END, ENTRIES, EXPIRING, FRAME_BYTES_MAX, HEADER_BYTES, KEYSPACE, MAGIC, PLAIN, VERSION, frame_crc};

/// What is wrong with an export, and where.
#[derive(Debug, Error)]
#[error("{what}, at byte {offset}")]
pub struct StreamError {
    /// Where in the stream the header or the frame begins.
    pub offset: u64,
    /// What is wrong there.
    pub what: Wrong,
}

/// What can be wrong with an export.
#[derive(Debug, Error)]
pub enum Wrong {
    /// It begins otherwise.
    #[error("is none: it does not begin as one")]
    NotAnExport,
    /// It was written by another version of this tool.
    #[error("has version {version} and features {features:#x}, which this tool does not know")]
    Unsupported {
        /// Version of the format.
        version: u32,
        /// Features that it needs.
        features: u32,
    },
    /// It ends before its end.
    #[error("is cut off")]
    Truncated,
    /// A checksum does not fit.
    #[error("was altered: a checksum does not fit")]
    Altered,
    /// It says something that no export says.
    #[error("cannot be read: {0}")]
    Malformed(&'static str),
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

/// A whole frame.
pub(in crate::kv_inspect) enum Frame {
    Keyspace { name: String, options: Vec<u8> },
    Entries(Entries),
    End,
}

/// Entries of one keyspace, all of them checked.
pub(in crate::kv_inspect) struct Entries {
    body: Vec<u8>,
}

impl Entries {
    pub(in crate::kv_inspect) fn for_each(&self, mut each: impl FnMut(&[u8], &[u8], Option<Millis>)) {
        walk(&self.body, &mut each).expect("a frame is checked before it is handed out");
    }
}

/// Takes a key, its value, and when that expires.
type Each<'a> = dyn FnMut(&[u8], &[u8], Option<Millis>) + 'a;

fn walk(body: &[u8], each: &mut Each<'_>) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(body);
    reader.u8()?;
    let mut entries = 0;
    while reader.remaining() > 0 {
        let kind = reader.u8()?;
        let key = reader.prefixed(KEY_BYTES_MAX)?;
        let expire_at = match kind {
            PLAIN => None,
            EXPIRING => Some(Millis(reader.u64()?)),
            _ => return Err(reader.error("a kind of entry")),
        };
        each(key, reader.prefixed(VALUE_BYTES_MAX)?, expire_at);
        entries += 1;
    }
    Ok(entries)
}

pub(in crate::kv_inspect) struct StreamReader<R> {
    input: R,
    offset: u64,
    keyspaces: u64,
    entries: u64,
}

impl<R: Read> StreamReader<R> {
    pub(in crate::kv_inspect) fn new(mut input: R) -> Result<Self, StreamError> {
        let mut header = Vec::new();
        fill(&mut input, HEADER_BYTES, &mut header).map_err(|what| StreamError { offset: 0, what })?;
        let refuse = |what| Err(StreamError { offset: 0, what });
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..8] != MAGIC {
            return refuse(Wrong::NotAnExport);
        }
        if word(16) != crc32(&[&header[..16]]) {
            return refuse(Wrong::Altered);
        }
        match (word(8), word(12)) {
            (VERSION, 0) => Ok(Self { input, offset: HEADER_BYTES as u64, keyspaces: 0, entries: 0 }),
            (version, features) => refuse(Wrong::Unsupported { version, features }),
        }
    }

    /// Where the next frame begins.
    pub(in crate::kv_inspect) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(in crate::kv_inspect) const fn counts(&self) -> (u64, u64) {
        (self.keyspaces, self.entries)
    }

    /// The next frame. Nothing may be asked for behind the end.
    ///
    /// # Errors
    /// [`StreamError`], with the offset of the frame.
    pub(in crate::kv_inspect) fn next(&mut self) -> Result<Frame, StreamError> {
        let offset = self.offset;
        self.read_frame().map_err(|what| StreamError { offset, what })
    }

    fn read_frame(&mut self) -> Result<Frame, Wrong> {
        let mut head = Vec::new();
        fill(&mut self.input, 8, &mut head)?;
        let mut fields = Reader::new(&head);
        let (crc, length) = (fields.u32().map_err(malformed)?, fields.u32().map_err(malformed)?);
        if length as usize > FRAME_BYTES_MAX {
            // No writer writes it, so it is not what was written.
            return Err(Wrong::Altered);
        }
        let mut body = Vec::new();
        fill(&mut self.input, length as usize, &mut body)?;
        if crc != frame_crc(self.offset, length, &body) {
            return Err(Wrong::Altered);
        }
        self.offset += 8 + u64::from(length);
        self.decode(body)
    }

    fn decode(&mut self, body: Vec<u8>) -> Result<Frame, Wrong> {
        let mut reader = Reader::new(&body);
        match reader.u8().map_err(malformed)? {
            KEYSPACE => {
                let name = reader.prefixed(NAME_BYTES_MAX).map_err(malformed)?.to_vec();
                let options = reader.prefixed(usize::MAX).map_err(malformed)?.to_vec();
                reader.finish().map_err(malformed)?;
                self.keyspaces += 1;
                let name = String::from_utf8(name).map_err(|_| Wrong::Malformed("a name that is UTF-8"))?;
                Ok(Frame::Keyspace { name, options })
            }
            ENTRIES if self.keyspaces == 0 => Err(Wrong::Malformed("a keyspace before its entries")),
            ENTRIES => {
                self.entries += walk(&body, &mut |_, _, _| {}).map_err(malformed)?;
                Ok(Frame::Entries(Entries { body }))
            }
            END => {
                let stated = (reader.u64().map_err(malformed)?, reader.u64().map_err(malformed)?);
                reader.finish().map_err(malformed)?;
                if stated != self.counts() {
                    return Err(Wrong::Malformed("an end that counts what is in the export"));
                }
                match self.input.read(&mut [0]) {
                    Ok(0) => Ok(Frame::End),
                    Ok(_) => Err(Wrong::Malformed("nothing behind the end")),
                    Err(error) => Err(Wrong::Io(error)),
                }
            }
            _ => Err(Wrong::Malformed("a kind of frame")),
        }
    }
}

fn malformed(error: DecodeError) -> Wrong {
    Wrong::Malformed(error.what)
}

/// Memory grows with what is there, not with what was claimed.
fn fill(input: &mut impl Read, length: usize, buffer: &mut Vec<u8>) -> Result<(), Wrong> {
    match input.take(length as u64).read_to_end(buffer) {
        Ok(read) if read == length => Ok(()),
        Ok(_) => Err(Wrong::Truncated),
        Err(error) => Err(Wrong::Io(error)),
    }
}

/// Reads an export to its end, telling how far it has come, in bytes.
///
/// # Errors
/// [`StreamError`].
pub fn check(input: impl Read, told: &mut dyn FnMut(u64)) -> Result<(), StreamError> {
    let mut reader = StreamReader::new(input)?;
    while !matches!(reader.next()?, Frame::End) {
        told(reader.offset());
    }
    Ok(())
}
