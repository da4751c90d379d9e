//! What a command prints: the same twice, for people and for programs.

use std::io::{self, Write};

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use super::columns::Columns;
use super::error::ToolError;

pub(super) struct Report {
    text: String,
    json: Value,
}

impl Report {
    pub(super) fn new(json: Value) -> Self {
        Self { text: String::new(), json }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn columns(&mut self, columns: &Columns) {
        self.text.push_str(&columns.to_string());
    }

    /// # Errors
    /// [`ToolError::Output`]. That a reader such as `head` has seen enough is none.
    pub(super) fn write(&self, as_json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
        let written = if as_json { writeln!(out, "{}", self.json) } else { out.write_all(self.text.as_bytes()) };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(ToolError::Output),
        }
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

pub(super) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A number that is an identity: it is compared, never counted with, and does not fit the numbers of JSON.
pub(super) fn identity(identity: u64) -> String {
    format!("{identity:016x}")
}

pub(super) fn key(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// Keys longer than this are cut in text.
const KEY_CHARS_MAX: usize = 32;

pub(super) fn short_key(bytes: &[u8]) -> String {
    let whole = key(bytes);
    if whole.len() <= KEY_CHARS_MAX { whole } else { format!("{}…", &whole[..KEY_CHARS_MAX - 1]) }
}
