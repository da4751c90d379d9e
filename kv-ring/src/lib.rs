//! Which nodes own a key.
#![forbid(unsafe_code)]

mod assign;
mod builder;
mod codec;
mod epoch;
mod layout;
mod node;
mod partition;
mod primaries;
mod report;
mod targets;

pub use builder::{LayoutBuilder, LayoutError};
pub use codec::LayoutDecodeError;
pub use epoch::Epoch;
pub use kv_core::{
    NodeId,
    hash::{Token, token_of},
};
pub use layout::Layout;
pub use node::{Member, Weight, Zone};
pub use partition::PartitionId;
pub use report::{NodeLoad, Report, Warning};
