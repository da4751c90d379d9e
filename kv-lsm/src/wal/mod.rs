//! The write-ahead log: a chain of numbered segments.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod segment;
pub(crate) mod spare;
pub(crate) mod writer;
