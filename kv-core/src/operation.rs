//! The name of one operation of a client.

use std::fmt;

/// Names one operation of a client, so that a retry is known as such. Drawn at random.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct OperationId(pub u128);

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op-{:032x}", self.0)
    }
}
