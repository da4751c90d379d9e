//! Who a node is, and what it must remember to stay that node.
//!
//! A member is a name, the incarnation of its storage, and a boot number that grows with every start. Peers remember the
//! highest boot they met. So a node with an empty or rolled-back disk cannot pass for the one it was (rule P1).

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::store::{Batch, Space, StoreError};
use kv_core::version::{Actor, Incarnation};
use kv_core::{NodeId, View};
use thiserror::Error;

/// Names a cluster. Drawn at random when it is founded, and carried by every frame.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// What a node that belongs to no cluster yet puts into its frames.
    pub const NONE: Self = Self(0);
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Counts the starts of a node, from one. Zero stands for a boot that is not known yet.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Boot(pub u64);

impl Boot {
    /// The first tag of this life. Lives do not share tags: a reply that was held back until it was durable may be sent
    /// when the asker is in its next life already, and must not be taken for the answer to another request there.
    pub(crate) fn first_tag(self) -> u64 {
        if sabotaged!(ShareTagsBetweenLives) { 1 } else { (self.0 % (1 << 22)) << 40 | 1 }
    }
}

/// What a node knows of itself during one life.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Identity {
    /// Its name.
    pub node: NodeId,
    /// Its storage.
    pub incarnation: Incarnation,
    /// This start.
    pub boot: Boot,
    /// Drawn at random at this start: two lives that claim one boot number differ in it.
    pub nonce: u64,
    /// The epoch of the actor that mints dots; grows whenever the storage may have forgotten something.
    pub epoch: u32,
    /// Set for ever once a peer has shown that this storage is not what it was.
    pub quarantined: bool,
}

/// The storage belongs to another node, or what it says is not an identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The directory was made by a node of another name.
    #[error("the storage belongs to {found}, not to {asked}")]
    OtherNode {
        /// Who owns it.
        found: NodeId,
        /// Who asked.
        asked: NodeId,
    },
    /// The stored bytes are not an identity.
    #[error("the stored identity is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const KEY: &[u8] = b"identity";
const FORMAT: u8 = 1;
const CLEAN: u8 = 1;
const QUARANTINED: u8 = 2;

impl Identity {
    /// Starts the next life of the node in `view`, or its first one with `fresh` as incarnation. `nonce` and `fresh` come
    /// from the host's randomness. What is written to `batch` must be durable before the node sends its first frame.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing was changed.
    pub fn begin(
        node: NodeId,
        fresh: Incarnation,
        nonce: u64,
        view: &dyn View,
        batch: &mut Batch,
    ) -> Result<Self, IdentityError> {
        let mut stored = None;
        view.get(Space::META, KEY, &mut |bytes| stored = Some(decode(bytes)))?;
        let identity = match stored.transpose()? {
            None => Self { node, incarnation: fresh, boot: Boot(1), nonce, epoch: 1, quarantined: false },
            Some((last, _)) if last.node != node => {
                return Err(IdentityError::OtherNode { found: last.node, asked: node });
            }
            // After an unclean stop the storage may lack dots that were minted and sent: their actor is retired.
            Some((last, clean)) => {
                Self { boot: Boot(last.boot.0 + 1), nonce, epoch: last.epoch + u32::from(!clean), ..last }
            }
        };
        identity.save(false, batch);
        Ok(identity)
    }

    /// Whether the life before may have forgotten something: it has not noted that it did not.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn forgot(view: &dyn View) -> Result<bool, IdentityError> {
        let mut stored = None;
        view.get(Space::META, KEY, &mut |bytes| stored = Some(decode(bytes)))?;
        Ok(stored.transpose()?.is_some_and(|(_, clean)| !clean))
    }

    /// Writes the identity; `clean` only as the last write of a life that forgets nothing.
    pub fn save(&self, clean: bool, batch: &mut Batch) {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.node.0);
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        put_varint(&mut out, self.boot.0);
        put_varint(&mut out, u64::from(self.epoch));
        out.push(if clean { CLEAN } else { 0 } | if self.quarantined { QUARANTINED } else { 0 });
        batch.put(Space::META, KEY, &out);
    }

    /// This node as a storage of a later generation. Its lives are numbered behind all those of the storages before: nobody starts
    /// a node a million times, and whoever remembers a life of one of those takes none of this one's for it.
    pub(crate) fn of_generation(&self, generation: u64) -> Self {
        Self { boot: Boot(generation.max(1) << 20 | 1), quarantined: false, ..*self }
    }

    /// This node once its storage is known not to be the member's.
    pub(crate) const fn quarantined(&self) -> Self {
        Self { quarantined: true, ..*self }
    }

    /// Who mints dots in this life.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        Actor { node: self.node, incarnation: self.incarnation, epoch: self.epoch }
    }
}

fn decode(bytes: &[u8]) -> Result<(Identity, bool), DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != FORMAT {
        return Err(reader.error("unknown format of identity"));
    }
    let node = NodeId(reader.varint()?);
    let incarnation = Incarnation(reader.u64()?);
    let boot = Boot(reader.varint()?);
    let epoch = reader.varint32()?;
    let flags = reader.u8()?;
    reader.finish()?;
    let quarantined = flags & QUARANTINED != 0;
    Ok((Identity { node, incarnation, boot, nonce: 0, epoch, quarantined }, flags & CLEAN != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::store::SpaceOptions;
    use kv_core::{MemStore, Store};

    fn begin(store: &MemStore, node: u64, fresh: u64) -> Result<Identity, IdentityError> {
        let mut batch = Batch::new();
        let identity = Identity::begin(NodeId(node), Incarnation(fresh), 77, store, &mut batch)?;
        store.commit(&batch).unwrap();
        Ok(identity)
    }

    #[test]
    fn protocol_rule_05_every_unclean_start_retires_the_actor() {
        let store = MemStore::new([(Space::META, SpaceOptions::default())]);
        assert!(!Identity::forgot(&store).unwrap(), "there was no life before");
        let first = begin(&store, 1, 5).unwrap();
        assert_eq!((first.boot, first.epoch, first.incarnation), (Boot(1), 1, Incarnation(5)));
        assert!(Identity::forgot(&store).unwrap());
        let second = begin(&store, 1, 6).unwrap();
        assert_eq!((second.boot, second.epoch, second.incarnation), (Boot(2), 2, Incarnation(5)));
        let mut batch = Batch::new();
        second.save(true, &mut batch);
        store.commit(&batch).unwrap();
        assert!(!Identity::forgot(&store).unwrap());
        let third = begin(&store, 1, 7).unwrap();
        assert_eq!((third.boot, third.epoch), (Boot(3), 2), "a clean stop keeps the actor");
        assert!(matches!(begin(&store, 2, 8), Err(IdentityError::OtherNode { found: NodeId(1), asked: NodeId(2) })));
    }
}
