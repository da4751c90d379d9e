//! A layout as bytes.
//!
//! ```text
//! layout  = version:u8 (1)  epoch:varint  q:u8  zones  members  classes
//! zones   = count:varint  { name: varint length, UTF-8 bytes }      in order, each in use
//! members = count:varint  { id:varint  weight:varint  zone:varint } in the order of ids
//! classes = count:u8  { replicas:u8  zone rule:u8 (0 spread, 1 distinct, 2 ignore)  holders }
//! holders = 2^q × replicas  { member:u8, or u16 little-endian when there are more than 256 members }
//! ```
//!
//! Partition by partition, in order of preference. A layout has one encoding, so its hash is the hash of these bytes (XXH3-64 with
//! a seed of its own). 1,024 partitions of three replicas on up to 256 nodes are 3 KiB.

use kv_core::{
    NodeId,
    codec::{self, Reader, put_prefixed, put_varint},
    hash,
};
use thiserror::Error;

use crate::{
    assignment::Assignment,
    class::{PlacementClass, ZoneRule},
    epoch::Epoch,
    layout::{Contents, Layout},
    node::{Member, Weight, Zone},
    partition::Partitions,
};

const VERSION: u8 = 1;

/// Seed of [`Layout::hash`]. Part of the format.
const HASH_SEED: u64 = 0x6b76_5f6c_6179_6f75;

/// The fewest bytes a zone and a member take.
const ZONE_BYTES_MIN: usize = 1;
const MEMBER_BYTES_MIN: usize = 3;

/// Bytes that are no layout. Nothing was changed by the attempt to read them.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum LayoutDecodeError {
    /// Written by a release that knows a later format; this node has to be upgraded before it can take part.
    #[error("layout format {version} is not known here, only {VERSION}")]
    UnknownVersion {
        /// The format's number.
        version: u8,
    },
    /// Cut off, damaged, or never a layout.
    #[error("not a layout: {0}")]
    Malformed(#[from] codec::DecodeError),
}

impl Layout {
    /// The layout as bytes: the members, and at most two bytes per replica.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self.contents())
    }

    /// Reads what [`Layout::encode`] wrote. Never panics and allocates in proportion to the bytes that are there.
    ///
    /// What is read is as sound as what is built (distinct replicas, all of them members with a weight); whether
    /// it is balanced is for [`Layout::report`] to say.
    ///
    /// # Errors
    /// When the bytes are of an unknown version, or are not the one encoding of a layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutDecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(LayoutDecodeError::UnknownVersion { version });
        }
        let contents = decode(&mut reader)?;
        reader.finish()?;
        Ok(Self::new(contents, hash::seeded(bytes, HASH_SEED)))
    }
}

/// Completes a layout that was made here.
pub(crate) fn seal(contents: Contents) -> Layout {
    let hash = hash::seeded(&encode(&contents), HASH_SEED);
    Layout::new(contents, hash)
}

/// Whether a holder takes two bytes.
pub(crate) fn is_wide(members: usize) -> bool {
    members > 256
}

pub(crate) fn encode(contents: &Contents) -> Vec<u8> {
    let (zones, zone_of) = contents.zones();
    let mut out = vec![VERSION];
    put_varint(&mut out, contents.epoch.0);
    out.push(u8::try_from(contents.partitions.bits()).expect("at most 24"));
    put_varint(&mut out, zones.len() as u64);
    for zone in &zones {
        put_prefixed(&mut out, zone.name().as_bytes());
    }
    put_varint(&mut out, contents.members.len() as u64);
    for (member, zone) in contents.members.iter().zip(zone_of) {
        put_varint(&mut out, member.id.0);
        put_varint(&mut out, member.weight.0.into());
        put_varint(&mut out, zone as u64);
    }
    let wide = is_wide(contents.members.len());
    out.push(u8::try_from(contents.assignments.len()).expect("at most Layout::CLASSES_MAX"));
    for assignment in &contents.assignments {
        put_class(&mut out, assignment.class());
        out.reserve(assignment.holders().len() * if wide { 2 } else { 1 });
        for &holder in assignment.holders() {
            let index = contents.member_index(holder).expect("holders are members");
            put_holder(&mut out, u16::try_from(index).expect("at most Layout::MEMBERS_MAX"), wide);
        }
    }
    out
}

/// Appends what a class asks for.
pub(crate) fn put_class(out: &mut Vec<u8>, class: PlacementClass) {
    out.push(u8::try_from(class.replicas).expect("at most Layout::REPLICAS_MAX"));
    out.push(match class.zones {
        ZoneRule::Spread => 0,
        ZoneRule::Distinct => 1,
        ZoneRule::Ignore => 2,
    });
}

/// Reads what [`put_class`] wrote.
pub(crate) fn read_class(reader: &mut Reader<'_>) -> Result<PlacementClass, codec::DecodeError> {
    let replicas = usize::from(reader.u8()?);
    if replicas == 0 || replicas > Layout::REPLICAS_MAX {
        return Err(reader.error("a replication factor that is not allowed"));
    }
    let zones = match reader.u8()? {
        0 => ZoneRule::Spread,
        1 => ZoneRule::Distinct,
        2 => ZoneRule::Ignore,
        _ => return Err(reader.error("an unknown zone rule")),
    };
    Ok(PlacementClass { replicas, zones })
}

/// Appends the index of a member that holds a replica.
pub(crate) fn put_holder(out: &mut Vec<u8>, index: u16, wide: bool) {
    let bytes = index.to_le_bytes();
    out.extend_from_slice(if wide { &bytes } else { &bytes[..1] });
}

fn decode(reader: &mut Reader<'_>) -> Result<Contents, codec::DecodeError> {
    let epoch = Epoch(reader.varint()?);
    if !(Epoch::FIRST..=Epoch::RECEIVED_MAX).contains(&epoch) {
        return Err(reader.error("an epoch that no cluster has"));
    }
    let partitions = 1_u32.checked_shl(reader.u8()?.into()).and_then(Partitions::new);
    let partitions = partitions.ok_or_else(|| reader.error("too many partitions"))?;
    let zones = decode_zones(reader)?;
    let members = decode_members(reader, &zones)?;

    let classes = usize::from(reader.u8()?);
    if classes == 0 || classes > Layout::CLASSES_MAX {
        return Err(reader.error("a number of classes that is not allowed"));
    }
    let mut assignments: Vec<Assignment> = Vec::with_capacity(classes);
    for _ in 0..classes {
        let class = read_class(reader)?;
        if assignments.iter().any(|before| before.class() == class) {
            return Err(reader.error("two classes of one kind"));
        }
        if members.iter().filter(|member| member.weight > Weight(0)).count() < class.replicas {
            return Err(reader.error("fewer members with a weight than replicas"));
        }
        let holders = decode_holders(reader, &members, partitions, class)?;
        assignments.push(Assignment::new(class, partitions, holders.into()));
    }
    Ok(Contents { epoch, partitions, members: members.into(), assignments: assignments.into() })
}

fn decode_holders(
    reader: &mut Reader<'_>,
    members: &[Member],
    partitions: Partitions,
    PlacementClass { replicas, .. }: PlacementClass,
) -> Result<Vec<NodeId>, codec::DecodeError> {
    let wide = is_wide(members.len());
    let slots = partitions.count() as usize * replicas;
    let bytes = reader.bytes(slots * if wide { 2 } else { 1 })?;
    let mut holders = Vec::with_capacity(slots);
    for slot in 0..slots {
        let index = if wide { u16::from_le_bytes([bytes[2 * slot], bytes[2 * slot + 1]]) } else { bytes[slot].into() };
        let member = members.get(usize::from(index)).ok_or_else(|| reader.error("a replica on an unknown member"))?;
        if member.weight == Weight(0) {
            return Err(reader.error("a replica on a member without a weight"));
        }
        if holders[slot - slot % replicas..].contains(&member.id) {
            return Err(reader.error("two replicas of a partition on one member"));
        }
        holders.push(member.id);
    }
    Ok(holders)
}

fn decode_zones(reader: &mut Reader<'_>) -> Result<Vec<Zone>, codec::DecodeError> {
    let count = reader.count(ZONE_BYTES_MIN)?;
    let mut zones: Vec<Zone> = Vec::with_capacity(count.min(Layout::MEMBERS_MAX));
    for _ in 0..count {
        let name = std::str::from_utf8(reader.prefixed(Zone::NAME_BYTES_MAX)?);
        let zone = Zone::new(name.map_err(|_| reader.error("a zone's name is not UTF-8"))?);
        if zones.last().is_some_and(|last| *last >= zone) {
            return Err(reader.error("zones are not in order"));
        }
        zones.push(zone);
    }
    Ok(zones)
}

fn decode_members(reader: &mut Reader<'_>, zones: &[Zone]) -> Result<Vec<Member>, codec::DecodeError> {
    let count = reader.count(MEMBER_BYTES_MIN)?;
    if count > Layout::MEMBERS_MAX {
        return Err(reader.error("too many members"));
    }
    let mut members: Vec<Member> = Vec::with_capacity(count);
    let mut zone_in_use = vec![false; zones.len()];
    for _ in 0..count {
        let id = NodeId(reader.varint()?);
        if members.last().map_or(NodeId(0), |last| last.id) >= id {
            return Err(reader.error("members are not in the order of ids above zero"));
        }
        let weight = Weight(reader.varint32()?);
        let zone = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let name = zones.get(zone).ok_or_else(|| reader.error("a member in an unknown zone"))?;
        zone_in_use[zone] = true;
        members.push(Member { id, weight, zone: name.clone() });
    }
    if zone_in_use.contains(&false) {
        return Err(reader.error("a zone without members"));
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
