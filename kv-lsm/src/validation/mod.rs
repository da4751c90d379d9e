//! Whether what a transaction read is still so when it commits.

pub(crate) mod admission;
pub(crate) mod read_set;
pub(crate) mod recent;
