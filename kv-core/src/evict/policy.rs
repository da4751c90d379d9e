//! What an eviction policy is asked, and what it answers.

use std::fmt;

use crate::expiry::Expiry;
use crate::slot::Slot;

/// What a policy may know about an entry.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Candidate {
    /// A hash of its key, well mixed in all bits: the name under which a policy remembers keys that are gone.
    pub hash: u64,
    /// What it costs.
    pub bytes: u32,
    /// When it expires anyway.
    pub expiry: Expiry,
}

/// Decides which entry has to go. It keeps no keys and no values: the owner tells it of slots coming, being used and
/// going, and asks for a victim while it is over its bound.
///
/// The owner says each thing once: a slot is inserted when it is not in, and updated, hit or removed only while it is.
/// Anything else may panic, or be answered with the wrong victim.
///
/// [`hit`](Policy::hit) is all that happens on a read and takes `&self`, so that readers need no exclusive lock. A
/// policy either keeps a few atomic bits per slot, or notes hits in a small buffer that [`settle`](Policy::settle)
/// empties.
pub trait Policy: Send + Sync + fmt::Debug {
    /// An entry came in.
    fn insert(&mut self, slot: Slot, candidate: Candidate);

    /// An entry was used. May be forgotten when there are more hits than the policy can note. Answers whether it would
    /// like [`settle`](Policy::settle) to be called soon; the owner may ignore that.
    fn hit(&self, slot: Slot) -> bool {
        let _ = slot;
        false
    }

    /// Brings noted hits to account. Everything else that takes `&mut self` does so by itself, first.
    fn settle(&mut self) {}

    /// The size or the expiry of an entry changed; its hash did not.
    fn update(&mut self, slot: Slot, candidate: Candidate);

    /// An entry went for another reason than [`evict`](Policy::evict): it was removed, or it expired.
    fn remove(&mut self, slot: Slot);

    /// Chooses the entry that goes next, and forgets it, except for what the policy remembers of evicted keys. `None`
    /// when there is none. `incoming_bytes` is what room is being made for: what comes in next, or by how much an
    /// entry grew.
    fn evict(&mut self, incoming_bytes: u32) -> Option<Slot>;
}
