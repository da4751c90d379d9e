//! What can go wrong.

use std::io;

use thiserror::Error;

use super::stream::StreamError;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The engine refused, or met damage.
    #[error(transparent)]
    Engine(#[from] kv_lsm::Error),
    /// What is being imported is not a whole export.
    #[error("the export {0}")]
    Stream(#[from] StreamError),
    /// Merge operands are left in a keyspace, and only its own operator knows what they come to.
    #[error(
        "keyspace {name:?} holds merge operands that are not folded, and this tool does not have its merge operator: \
         open the database with the operator, call `compact_range(..)` on the keyspace, or leave it out with --keyspace"
    )]
    Operands {
        /// Name of the keyspace.
        name: String,
    },
    /// Bytes for programs are not written to a terminal.
    #[error("an export is not for terminals: redirect it, or give --output FILE")]
    Terminal,
    /// The report or the export could not be written.
    #[error("cannot write: {0}")]
    Output(io::Error),
    /// The export could not be opened.
    #[error("cannot read the export: {0}")]
    Input(io::Error),
}
