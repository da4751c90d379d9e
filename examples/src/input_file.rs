//! A file of `key<TAB>value` lines, read one line at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kv_core::limits::PARTITION_KEY_BYTES_MAX;
use thiserror::Error;

use crate::workload::Write;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = PARTITION_KEY_BYTES_MAX;

/// The longest value, in bytes: a record with its versions and names must fit half a frame of the transport.
pub const VALUE_BYTES_MAX: usize = 4 << 20;

/// The longest line with its end: a key, a tab, a value, `\n`.
const LINE_BYTES_MAX: u64 = (KEY_BYTES_MAX + 1 + VALUE_BYTES_MAX + 1) as u64;

/// What is wrong with a file. Everything before the line was given out.
#[derive(Debug, Error)]
pub enum InputError {
    /// It cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its length says where the middle is, so a pipe will not do.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file without lines.
    #[error("{} is empty", path.display())]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// A line that is not a key, a tab and a value within the limits.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: u64,
        /// What is wrong with it.
        what: LineError,
    },
}

/// What is wrong with a line.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum LineError {
    /// Nothing separates a key from a value.
    #[error("no tab between a key and a value")]
    NoTab,
    /// The line begins with a tab.
    #[error("the key is empty")]
    EmptyKey,
    /// Over [`KEY_BYTES_MAX`].
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    /// Over [`VALUE_BYTES_MAX`].
    #[error("the value is longer than {VALUE_BYTES_MAX} bytes")]
    ValueTooLong,
}

/// The writes that a file asks for, in its order. After an error there is nothing more.
pub struct InputFile {
    path: PathBuf,
    reader: BufReader<File>,
    length: u64,
    position: u64,
    line: u64,
    failed: bool,
}

impl InputFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`InputError`], except for what is wrong with a line.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let io_error = |source| InputError::Io { path: path.to_owned(), source };
        // Looked at before it is opened, because opening a pipe waits for its other end.
        let metadata = std::fs::metadata(path).map_err(io_error)?;
        if !metadata.is_file() {
            return Err(InputError::NotAFile { path: path.to_owned() });
        }
        if metadata.len() == 0 {
            return Err(InputError::Empty { path: path.to_owned() });
        }
        let reader = BufReader::new(File::open(path).map_err(io_error)?);
        Ok(Self { path: path.to_owned(), reader, length: metadata.len(), position: 0, line: 0, failed: false })
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes of it were read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    fn read(&mut self) -> Result<Option<Write>, InputError> {
        let mut line = Vec::new();
        // A file without ends of lines must not fill the memory.
        let mut bounded = (&mut self.reader).take(LINE_BYTES_MAX);
        let count = bounded.read_until(b'\n', &mut line);
        let count = count.map_err(|source| InputError::Io { path: self.path.clone(), source })?;
        if count == 0 {
            return Ok(None);
        }
        self.position += count as u64;
        self.line += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        // Files from elsewhere may end their lines in the way of DOS.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let write = parse(line).map_err(|what| InputError::Line { path: self.path.clone(), line: self.line, what })?;
        Ok(Some(write))
    }
}

impl Iterator for InputFile {
    type Item = Result<Write, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let write = self.read();
        self.failed = write.is_err();
        write.transpose()
    }
}

/// The first tab ends the key; later ones belong to the value, which may be empty.
fn parse(line: &[u8]) -> Result<Write, LineError> {
    let Some(tab) = line.iter().take(KEY_BYTES_MAX + 1).position(|&byte| byte == b'\t') else {
        return Err(if line.contains(&b'\t') { LineError::KeyTooLong } else { LineError::NoTab });
    };
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    if key.is_empty() {
        return Err(LineError::EmptyKey);
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(LineError::ValueTooLong);
    }
    Ok(Write { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) })
}

#[cfg(test)]
mod tests;
