//! Who founded a cluster with whom, and which storages its members have.
//!
//! ```text
//! founding := format:u8 (2)  cluster:u128  epoch:varint  partitions:varint  count:varint  member*
//! member   := node:varint  incarnation:u64  generation:varint (ms)  address:prefixed  zone:prefixed  weight:varint
//! ```

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_prefixed, put_varint};
use kv_core::time::Millis;
use kv_core::version::Incarnation;
use kv_ring::{Layout, Weight, Zone};

use super::text;
use crate::identity::ClusterId;
use crate::member::Member;

const FORMAT: u8 = 2;
/// Most members a founding may list.
const MEMBERS_MAX: usize = 10_000;

/// A member and its storage.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct FoundingMember {
    /// Name, address, zone and weight.
    pub member: Member,
    /// Its storage. A node with another one is not this member.
    pub incarnation: Incarnation,
    /// Zero for its first storage. For a later one, when it took the place of the one before, in milliseconds of some member's wall
    /// clock, and always later than the one before: of two that members took for the present one without knowing of each
    /// other, the later one counts.
    pub generation: u64,
}

impl FoundingMember {
    /// A member with its first storage.
    #[must_use]
    pub const fn new(member: Member, incarnation: Incarnation) -> Self {
        Self { member, incarnation, generation: 0 }
    }

    /// Which of two storages is the later one. Of two of one moment, any, but everywhere the same.
    const fn storage(&self) -> (u64, u64) {
        (self.generation, self.incarnation.0)
    }
}

/// The birth of a cluster.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Founding {
    /// Its name.
    pub cluster: ClusterId,
    /// The version of membership: one as long as each member has its first storage, and more with each that is replaced.
    pub epoch: u64,
    /// Into how many partitions the hash space of each table is cut.
    pub partitions: u32,
    /// Everybody, in the order of names.
    pub members: Vec<FoundingMember>,
}

impl Founding {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        put_varint(out, self.epoch);
        put_varint(out, u64::from(self.partitions));
        put_varint(out, self.members.len() as u64);
        for FoundingMember { member, incarnation, generation } in &self.members {
            put_varint(out, member.node.0);
            out.extend_from_slice(&incarnation.0.to_le_bytes());
            put_varint(out, *generation);
            put_prefixed(out, member.address.as_bytes());
            put_prefixed(out, member.zone.name().as_bytes());
            put_varint(out, u64::from(member.weight.0));
        }
    }

    /// Reads what [`Founding::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a founding.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.u8()? != FORMAT {
            return Err(reader.error("unknown format of founding"));
        }
        let cluster = ClusterId(u128::from_le_bytes(reader.array()?));
        if cluster == ClusterId::NONE {
            return Err(reader.error("a founding without a cluster"));
        }
        let epoch = reader.varint()?;
        let partitions = reader.varint32()?;
        let count = reader.count(13)?;
        if count == 0 || count > MEMBERS_MAX {
            return Err(reader.error("number of members"));
        }
        let mut members: Vec<FoundingMember> = Vec::with_capacity(count);
        for _ in 0..count {
            let node = NodeId(reader.varint()?);
            if members.last().is_some_and(|last| last.member.node >= node) {
                return Err(reader.error("members out of order"));
            }
            let incarnation = Incarnation(reader.u64()?);
            let generation = reader.varint()?;
            let address = text(reader)?;
            let zone = Zone::new(&text(reader)?);
            let weight = Weight(reader.varint32()?);
            let member = Member { node, address, zone, weight };
            members.push(FoundingMember { member, incarnation, generation });
        }
        if version_of(&members) != epoch {
            return Err(reader.error("a version that is not that of the members"));
        }
        Ok(Self { cluster, epoch, partitions, members })
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&FoundingMember> {
        self.members.binary_search_by_key(&node, |member| member.member.node).ok().map(|at| &self.members[at])
    }

    /// Puts another storage in the place of a member's present one, at this time.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn succeed(&mut self, node: NodeId, incarnation: Incarnation, wall: Millis) {
        let at = self.members.binary_search_by_key(&node, |member| member.member.node).expect("a member");
        let member = &mut self.members[at];
        (member.incarnation, member.generation) = (incarnation, member.generation.saturating_add(1).max(wall.0));
        self.epoch = version_of(&self.members);
    }

    /// Learns from what another node knows of the same cluster which storages were replaced. Commutative, associative and
    /// idempotent. Returns whether anything was new.
    pub fn join(&mut self, other: &Self) -> bool {
        let is_same = self.cluster == other.cluster && self.members.len() == other.members.len();
        if !is_same {
            return false;
        }
        let mut changed = false;
        for (known, told) in self.members.iter_mut().zip(&other.members) {
            if known.member.node == told.member.node && known.storage() < told.storage() {
                (known.incarnation, known.generation) = (told.incarnation, told.generation);
                changed = true;
            }
        }
        self.epoch = version_of(&self.members);
        changed
    }

    /// The member that hands out table numbers.
    #[must_use]
    pub fn schema_home(&self) -> NodeId {
        self.members[0].member.node
    }

    /// Lays out a table of `replicas` over the members.
    ///
    /// # Errors
    /// As the ring says.
    pub fn lay_out(&self, replicas: usize) -> Result<Layout, kv_ring::LayoutError> {
        let mut builder = Layout::builder(replicas).partitions(self.partitions);
        for FoundingMember { member, .. } in &self.members {
            builder = builder.node(member.node, member.weight, member.zone.clone());
        }
        builder.build()
    }
}

/// The version of a founding with these members.
fn version_of(members: &[FoundingMember]) -> u64 {
    members.iter().fold(1, |epoch, member| epoch.saturating_add(member.generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foundings_are_joined_in_any_order() {
        let member = |node| FoundingMember::new(Member::new(NodeId(node), "a"), Incarnation(node));
        let first = Founding { cluster: ClusterId(1), epoch: 1, partitions: 1, members: (1..=2).map(member).collect() };
        let told = [(1, 10, 5), (1, 11, 5), (1, 12, 3), (2, 20, 9)].map(|(node, incarnation, wall)| {
            let mut founding = first.clone();
            founding.succeed(NodeId(node), Incarnation(incarnation), Millis(wall));
            founding
        });
        let join = |order: [usize; 5]| {
            let mut founding = first.clone();
            order.into_iter().for_each(|which| {
                founding.join(&told[which]);
            });
            founding
        };
        let all = join([0, 1, 2, 3, 0]);
        assert_eq!(
            all.members[0].incarnation,
            Incarnation(11),
            "of one moment the larger one, and none of an earlier moment"
        );
        assert_eq!((all.members[1].incarnation, all.epoch), (Incarnation(20), 1 + 5 + 9));
        for order in [[3, 2, 1, 0, 1], [1, 0, 3, 2, 2], [2, 3, 0, 1, 3]] {
            assert_eq!(join(order), all);
        }
        let stranger = Founding { cluster: ClusterId(2), ..told[0].clone() };
        assert!(!first.clone().join(&stranger), "of another cluster");
    }
}
