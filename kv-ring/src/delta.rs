//! The difference between two layouts, as bytes: what is sent to somebody who has the one and needs the other.
//!
//! ```text
//! delta   = version:u8 (1)  base epoch:varint  base hash:u64  epoch:varint  hash:u64
//!           removed  set  members:varint (how many there are afterwards)  classes
//! removed = count:varint { id:varint }                               in the order of ids
//! set     = count:varint { id:varint  weight:varint  zone: varint length, UTF-8 bytes }       added or changed, in the order of ids
//! classes = count:u8  { replicas:u8  zone rule:u8  rows }            as in a layout; all of them
//! rows    = count:varint { partitions skipped since the last row:varint  replicas × member }      of changed partitions
//! member  = u8, or u16 little-endian when there are more than 256 members afterwards: its place in the order of ids
//! ```
//!
//! A class whose replication factor changed, or that is new, has all of its rows. Numbers are little-endian.

use kv_core::{
    NodeId,
    codec::{self, Reader, put_prefixed, put_varint},
};
use thiserror::Error;

use crate::{
    assignment::Assignment,
    class::PlacementClass,
    codec::{LayoutDecodeError, encode, is_wide, put_class, put_holder, read_class},
    epoch::Epoch,
    layout::{Contents, Layout},
    node::{Member, Weight, Zone},
};

const VERSION: u8 = 1;

/// The fewest bytes of a member that is removed, and of one that is set.
const REMOVED_BYTES_MIN: usize = 1;
const SET_BYTES_MIN: usize = 3;

/// What changed from one layout, the base, to another; from [`Layout::delta_to`].
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LayoutDelta {
    base: Version,
    next: Version,
    removed: Vec<NodeId>,
    set: Vec<Member>,
    /// Members afterwards, on which the width of a holder depends.
    members: usize,
    classes: Vec<ClassRows>,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Version {
    epoch: Epoch,
    hash: u64,
}

/// The changed rows of one class.
#[derive(Clone, Eq, PartialEq, Debug)]
struct ClassRows {
    class: PlacementClass,
    /// Ascending.
    partitions: Vec<u32>,
    /// `class.replicas` places in the next layout's members for each of them.
    holders: Vec<u16>,
}

/// Why a delta cannot be made or applied. Nothing was changed by the attempt; the whole layout will do.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum DeltaError {
    /// The layouts cut the hash space differently, so that all of it differs.
    #[error("a delta from {had} to {wanted} partitions")]
    PartitionsChanged {
        /// Of the base.
        had: u32,
        /// Of the next.
        wanted: u32,
    },
    /// The next layout lacks classes of the base, which no plan does.
    #[error("a delta from {had} to {wanted} placement classes")]
    ClassesLost {
        /// Of the base.
        had: usize,
        /// Of the next.
        wanted: usize,
    },
    /// The delta starts from another layout than this.
    #[error("the delta starts from {base} {base_hash:016x}, this is {found} {found_hash:016x}")]
    OtherBase {
        /// The epoch it starts from.
        base: Epoch,
        /// Its hash.
        base_hash: u64,
        /// The epoch there is.
        found: Epoch,
        /// Its hash.
        found_hash: u64,
    },
    /// The delta names its base rightly and still does not fit to it, or leads to no layout.
    #[error("the delta does not lead to a layout: {0}")]
    Unsound(&'static str),
    /// What the delta leads to is not what it says it leads to.
    #[error("the delta leads to a layout of hash {found:016x}, and says {wanted:016x}")]
    OtherResult {
        /// As it says.
        wanted: u64,
        /// As it is.
        found: u64,
    },
}

impl Layout {
    /// What changed from this layout to `next`.
    ///
    /// # Errors
    /// When the two are not of one cluster: their numbers of partitions differ, or `next` has fewer classes.
    pub fn delta_to(&self, next: &Layout) -> Result<LayoutDelta, DeltaError> {
        let (had, wanted) = (self.partitions(), next.partitions());
        if had != wanted {
            return Err(DeltaError::PartitionsChanged { had, wanted });
        }
        let (had, wanted) = (self.assignments().len(), next.assignments().len());
        if wanted < had {
            return Err(DeltaError::ClassesLost { had, wanted });
        }
        let removed = self.nodes().iter().map(|member| member.id).filter(|&node| next.member(node).is_none());
        let set = next.nodes().iter().filter(|member| self.member(member.id) != Some(member));
        let rows = next.assignments().iter().enumerate().map(|(number, assignment)| {
            let before = self.assignments().get(number);
            changed_rows(before, assignment, next.contents())
        });
        Ok(LayoutDelta {
            base: Version { epoch: self.epoch(), hash: self.hash() },
            next: Version { epoch: next.epoch(), hash: next.hash() },
            removed: removed.collect(),
            set: set.cloned().collect(),
            members: next.nodes().len(),
            classes: rows.collect(),
        })
    }

    /// The layout that `delta` leads to from this one.
    ///
    /// # Errors
    /// When the delta starts from another epoch or another layout of this epoch, or does not lead to a layout, or not to the one
    /// that it names.
    pub fn apply(&self, delta: &LayoutDelta) -> Result<Layout, DeltaError> {
        let LayoutDelta { base, next, .. } = delta;
        let found = Version { epoch: self.epoch(), hash: self.hash() };
        if *base != found {
            let (base, base_hash) = (base.epoch, base.hash);
            return Err(DeltaError::OtherBase { base, base_hash, found: found.epoch, found_hash: found.hash });
        }
        let members = delta.members_after(self)?;
        if delta.classes.len() < self.assignments().len() {
            return Err(DeltaError::Unsound("classes are missing"));
        }
        let assignments: Result<Box<[Assignment]>, DeltaError> = delta
            .classes
            .iter()
            .enumerate()
            .map(|(number, rows)| rows.applied_to(self, self.assignments().get(number), &members))
            .collect();
        let partitions = self.contents().partitions;
        let contents = Contents { epoch: next.epoch, partitions, members, assignments: assignments? };
        // What can be read back is sound in every way that a layout from elsewhere is.
        let layout = Layout::decode(&encode(&contents)).map_err(|error| match error {
            LayoutDecodeError::Malformed(error) => DeltaError::Unsound(error.what),
            LayoutDecodeError::UnknownVersion { .. } => unreachable!("written by this release"),
        })?;
        if layout.hash() != next.hash {
            return Err(DeltaError::OtherResult { wanted: next.hash, found: layout.hash() });
        }
        Ok(layout)
    }
}

/// The rows of `assignment` that are not those of `before`.
fn changed_rows(before: Option<&Assignment>, assignment: &Assignment, next: &Contents) -> ClassRows {
    let class = assignment.class();
    let mut rows = ClassRows { class, partitions: Vec::new(), holders: Vec::new() };
    for (partition, row) in assignment.rows() {
        if before.is_some_and(|before| before.replicas(partition) == row) {
            continue;
        }
        rows.partitions.push(partition.0);
        rows.holders.extend(row.iter().map(|&node| {
            let index = next.member_index(node).expect("holders are members");
            u16::try_from(index).expect("at most Layout::MEMBERS_MAX")
        }));
    }
    rows
}

impl ClassRows {
    fn applied_to(
        &self,
        base: &Layout,
        before: Option<&Assignment>,
        members: &[Member],
    ) -> Result<Assignment, DeltaError> {
        let replicas = self.class.replicas;
        let partitions = base.partitions() as usize;
        let kept = before.filter(|before| before.class().replicas == replicas);
        if kept.is_none() && self.partitions.len() != partitions {
            return Err(DeltaError::Unsound("rows of a new class are missing"));
        }
        let mut holders = match kept {
            Some(before) => before.holders().to_vec(),
            None => vec![NodeId(0); partitions * replicas],
        };
        for (&partition, row) in self.partitions.iter().zip(self.holders.chunks_exact(replicas)) {
            let start = partition as usize * replicas;
            let places = holders.get_mut(start..start + replicas).ok_or(DeltaError::Unsound("an unknown partition"))?;
            for (place, &index) in places.iter_mut().zip(row) {
                let member = members.get(usize::from(index)).ok_or(DeltaError::Unsound("an unknown member"))?;
                *place = member.id;
            }
        }
        let is_member = |node: &NodeId| members.binary_search_by_key(node, |member| member.id).is_ok();
        if !holders.iter().all(is_member) {
            return Err(DeltaError::Unsound("a replica stays on a node that leaves"));
        }
        Ok(Assignment::new(self.class, base.contents().partitions, holders.into()))
    }
}

impl LayoutDelta {
    /// The epoch that it starts from.
    #[must_use]
    pub fn base(&self) -> Epoch {
        self.base.epoch
    }

    /// The epoch that it leads to.
    #[must_use]
    pub fn next(&self) -> Epoch {
        self.next.epoch
    }

    /// The members that the delta makes of those of its base.
    fn members_after(&self, base: &Layout) -> Result<Box<[Member]>, DeltaError> {
        let mut members: std::collections::BTreeMap<NodeId, &Member> =
            base.nodes().iter().map(|member| (member.id, member)).collect();
        for node in &self.removed {
            members.remove(node).ok_or(DeltaError::Unsound("a node that leaves is no member"))?;
        }
        members.extend(self.set.iter().map(|member| (member.id, member)));
        if members.len() != self.members {
            return Err(DeltaError::Unsound("another number of members"));
        }
        Ok(members.into_values().cloned().collect())
    }

    /// The delta as bytes: 25 or more, and what changed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for version in [self.base, self.next] {
            put_varint(&mut out, version.epoch.0);
            out.extend_from_slice(&version.hash.to_le_bytes());
        }
        put_varint(&mut out, self.removed.len() as u64);
        for node in &self.removed {
            put_varint(&mut out, node.0);
        }
        put_varint(&mut out, self.set.len() as u64);
        for member in &self.set {
            put_varint(&mut out, member.id.0);
            put_varint(&mut out, member.weight.0.into());
            put_prefixed(&mut out, member.zone.name().as_bytes());
        }
        put_varint(&mut out, self.members as u64);
        let wide = is_wide(self.members);
        out.push(u8::try_from(self.classes.len()).expect("at most Layout::CLASSES_MAX"));
        for ClassRows { class, partitions, holders } in &self.classes {
            put_class(&mut out, *class);
            put_varint(&mut out, partitions.len() as u64);
            let mut next = 0;
            for (&partition, row) in partitions.iter().zip(holders.chunks_exact(class.replicas)) {
                put_varint(&mut out, u64::from(partition - next));
                next = partition + 1;
                row.iter().for_each(|&index| put_holder(&mut out, index, wide));
            }
        }
        out
    }

    /// Reads what [`LayoutDelta::encode`] wrote. Never panics and allocates in proportion to the bytes that are there.
    ///
    /// # Errors
    /// When the bytes are of an unknown version, or are not the one encoding of a delta. Whether it fits is for
    /// [`Layout::apply`] to say.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutDecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(LayoutDecodeError::UnknownVersion { version });
        }
        let delta = decode(&mut reader)?;
        reader.finish()?;
        Ok(delta)
    }
}

fn decode(reader: &mut Reader<'_>) -> Result<LayoutDelta, codec::DecodeError> {
    let base = Version { epoch: Epoch(reader.varint()?), hash: reader.u64()? };
    let next = Version { epoch: Epoch(reader.varint()?), hash: reader.u64()? };
    let mut removed: Vec<NodeId> = Vec::new();
    for _ in 0..reader.count(REMOVED_BYTES_MIN)? {
        let node = NodeId(reader.varint()?);
        if removed.last().is_some_and(|&last| last >= node) {
            return Err(reader.error("nodes that leave are not in order"));
        }
        removed.push(node);
    }
    let mut set: Vec<Member> = Vec::new();
    for _ in 0..reader.count(SET_BYTES_MIN)? {
        let id = NodeId(reader.varint()?);
        if set.last().is_some_and(|last| last.id >= id) || removed.binary_search(&id).is_ok() {
            return Err(reader.error("members are not in order"));
        }
        let weight = Weight(reader.varint32()?);
        let name = std::str::from_utf8(reader.prefixed(Zone::NAME_BYTES_MAX)?);
        let zone = Zone::new(name.map_err(|_| reader.error("a zone's name is not UTF-8"))?);
        set.push(Member { id, weight, zone });
    }
    let members = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if members > Layout::MEMBERS_MAX {
        return Err(reader.error("too many members"));
    }
    let count = usize::from(reader.u8()?);
    if count == 0 || count > Layout::CLASSES_MAX {
        return Err(reader.error("a number of classes that is not allowed"));
    }
    let mut classes: Vec<ClassRows> = Vec::with_capacity(count);
    for _ in 0..count {
        classes.push(decode_rows(reader, is_wide(members))?);
    }
    Ok(LayoutDelta { base, next, removed, set, members, classes })
}

fn decode_rows(reader: &mut Reader<'_>, wide: bool) -> Result<ClassRows, codec::DecodeError> {
    let class = read_class(reader)?;
    let row_bytes = class.replicas * if wide { 2 } else { 1 };
    let count = reader.count(1 + row_bytes)?;
    let mut partitions = Vec::with_capacity(count);
    let mut holders = Vec::with_capacity(count * class.replicas);
    let mut next = 0_u32;
    for _ in 0..count {
        let partition = next.checked_add(reader.varint32()?).filter(|&partition| partition < Layout::PARTITIONS_MAX);
        let partition = partition.ok_or_else(|| reader.error("too many partitions"))?;
        partitions.push(partition);
        next = partition + 1;
        let row = reader.bytes(row_bytes)?;
        if wide {
            holders.extend(row.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])));
        } else {
            holders.extend(row.iter().copied().map(u16::from));
        }
    }
    Ok(ClassRows { class, partitions, holders })
}

#[cfg(test)]
mod tests;
