//! What becomes of a batch before it begins.

use thiserror::Error;

/// Why a batch was not begun. Nothing of it was done.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// It is of more requests than a batch may be of.
    #[error("a batch of {count} requests; at most {count_max} are possible")]
    TooMany {
        /// How many it is of.
        count: usize,
        /// The limit: `Config::batch_requests_max`.
        count_max: usize,
    },
    /// Keys, values and contexts together are over the limit.
    #[error("a batch of {bytes} bytes; at most {bytes_max} are possible")]
    TooLarge {
        /// How long they are.
        bytes: usize,
        /// The limit: `Config::batch_bytes_max`.
        bytes_max: usize,
    },
    /// Its requests were made at tables of different nodes.
    #[error("a batch of requests to different nodes")]
    OtherNode,
}
