//! Versions: who wrote what, and what each write had seen.
//!
//! Sources: dotted version vectors and their sets, Almeida, Baquero, Gonçalves, Preguiça, Fonte, "Scalable and accurate
//! causality tracking for eventually consistent stores" (DAIS 2014); version vectors with exceptions, Malkhi and Terry,
//! "Concise version vectors in WinFS" (DISC 2005).
//!
//! Dots are explicit here, and a context says exactly which dots it covers. The contiguous form of the literature ("all up
//! to n") would cover a dot that was minted and lost, so that the next writer would silently claim to have seen it.

mod dot;
mod set;
mod vector;

pub use dot::{Actor, Dot, Incarnation};
pub use set::DottedVersionSet;
pub(crate) use set::join_entries;
pub use vector::{Causality, Span, VersionVector};
