//! The manifest: which keyspaces and tables there are, and where the log begins.

pub(crate) mod catalog;
pub(crate) mod edit;
pub(crate) mod log;
