//! Tables: immutable sorted files.

pub(crate) mod block;
pub(crate) mod cursor;
pub(crate) mod describe;
pub(crate) mod filter;
pub(crate) mod format;
mod index;
pub(crate) mod keeper;
pub(crate) mod meta;
pub(crate) mod reader;
pub(crate) mod residents;
pub(crate) mod scratch;
pub(crate) mod writer;
mod zstd;
