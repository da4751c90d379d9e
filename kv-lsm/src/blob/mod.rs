//! Blob files: large values, apart from the tables whose entries point to them.
//!
//! Key-value separation after WiscKey (Lu et al., FAST 2016), in the shape that RocksDB's BlobDB and Titan gave it: a flush or
//! compaction writes values from a size on to an immutable file, and puts a pointer into the table. What a compaction moves
//! down the levels is then small, however large the values are.
//!
//! `format` is imported by `reader` and `writer`; `meta` is what the manifest says of a file, `files` those of one version,
//! `separate` what a job does with the values it keeps.

pub(crate) mod files;
pub(crate) mod format;
pub(crate) mod meta;
pub(crate) mod reader;
pub(crate) mod separate;
pub(crate) mod writer;
