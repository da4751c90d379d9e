//! A topology as bytes.
//!
//! ```text
//! topology = version:u8 (1)  epoch:varint  layout:prefixed  state:u8 (0 settled, 1 moving, 2 being given up)
//!            [delta to the next layout:prefixed, unless settled]  since  { since: for each class }
//! since    = count:varint  { partitions:varint  stage:u8  epochs ago:varint }       runs of partitions alike, in their order
//! prefixed = varint length, bytes
//! ```
//!
//! Stages are numbered in the order of [`Stage::ALL`].

use kv_core::{
    codec::{DecodeError, Reader, put_prefixed, put_varint},
    hash,
};
use thiserror::Error;

use super::{Topology, Transition};
use crate::{
    codec::LayoutDecodeError,
    delta::{DeltaError, LayoutDelta},
    epoch::Epoch,
    layout::Layout,
    placement::Stage,
};

const VERSION: u8 = 1;

/// Seed of [`Topology::hash`]. Part of the format.
const HASH_SEED: u64 = 0x6b76_5f74_6f70_6f6c;

/// The fewest bytes of a run.
const RUN_BYTES_MIN: usize = 3;

/// Bytes that are no topology. Nothing was changed by the attempt to read them.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum TopologyDecodeError {
    /// Written by a release that knows a later format.
    #[error("topology format {version} is not known here, only {VERSION}")]
    UnknownVersion {
        /// The format's number.
        version: u8,
    },
    /// One of the two layouts cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutDecodeError),
    /// The way to the next layout does not lead there.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// Cut off, damaged, or never a topology.
    #[error("not a topology: {0}")]
    Malformed(#[from] DecodeError),
}

impl Topology {
    /// The topology as bytes: the layout, what changes, and a few bytes for each run of partitions that are alike.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.epoch.0);
        put_prefixed(&mut out, &self.layout.encode());
        match &self.transition {
            None => out.push(0),
            Some(Transition { next, aborting, .. }) => {
                out.push(if *aborting { 2 } else { 1 });
                let delta = self.layout.delta_to(next).expect("plans stay within a cluster");
                put_prefixed(&mut out, &delta.encode());
            }
        }
        for (number, since) in self.since.iter().enumerate() {
            let stage_of = |partition: usize| match &self.transition {
                Some(transition) => transition.stages[number][partition],
                None => Stage::Stable,
            };
            let states: Vec<(Stage, Epoch)> =
                since.iter().enumerate().map(|(partition, &epoch)| (stage_of(partition), epoch)).collect();
            let runs: Vec<&[(Stage, Epoch)]> = states.chunk_by(|one, other| one == other).collect();
            put_varint(&mut out, runs.len() as u64);
            for run in runs {
                let (stage, epoch) = run[0];
                put_varint(&mut out, run.len() as u64);
                out.push(number_of(stage));
                put_varint(&mut out, self.epoch.0 - epoch.0);
            }
        }
        out
    }

    /// Reads what [`Topology::encode`] wrote. Never panics and allocates in proportion to the bytes that are there.
    ///
    /// # Errors
    /// When the bytes are of an unknown version, or are not the one encoding of a topology.
    pub fn decode(bytes: &[u8]) -> Result<Self, TopologyDecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(TopologyDecodeError::UnknownVersion { version });
        }
        let epoch = Epoch(reader.varint()?);
        let layout = Layout::decode(reader.prefixed(usize::MAX)?)?;
        if epoch < layout.epoch() {
            return Err(reader.error("an epoch before that of the layout").into());
        }
        if epoch > Epoch::RECEIVED_MAX {
            return Err(reader.error("an epoch that no cluster has").into());
        }
        let state = reader.u8()?;
        if state > 2 {
            return Err(reader.error("an unknown state").into());
        }
        let next = match state {
            0 => None,
            _ => {
                let delta = LayoutDelta::decode(reader.prefixed(usize::MAX)?)?;
                let next = layout.apply(&delta)?;
                if layout.delta_to(&next)? != delta {
                    return Err(reader.error("a delta that says more than it need").into());
                }
                Some(next)
            }
        };
        let mut since = Vec::with_capacity(layout.assignments().len());
        let mut stages = Vec::with_capacity(layout.assignments().len());
        for _ in layout.classes() {
            let (stages_of_class, since_of_class) = decode_runs(&mut reader, &layout, epoch)?;
            stages.push(stages_of_class);
            since.push(since_of_class);
        }
        let does_not_move = reader.error("a stage of a partition that does not move");
        let no_way_back = reader.error("a change that is given up with no way back");
        reader.finish()?;
        let transition = next.map(|next| Transition { next, aborting: state == 2, stages: stages.clone() });
        let topology = Self { epoch, layout, since, transition };
        for class in topology.layout.classes() {
            for (partition, &stage) in topology.layout.partition_ids().zip(&stages[usize::from(class.0)]) {
                let placement = topology.placement_in(class, partition);
                if stage != Stage::Stable && placement.old == placement.new {
                    return Err(does_not_move.into());
                }
            }
        }
        if topology.is_aborting() && topology.check_way_back().is_err() {
            return Err(no_way_back.into());
        }
        Ok(topology)
    }

    /// A hash of the encoded topology, as [`Layout::hash`] is of a layout: two topologies of one epoch are equal or have
    /// different hashes.
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash::seeded(&self.encode(), HASH_SEED)
    }
}

type States = (Box<[Stage]>, Box<[Epoch]>);

fn decode_runs(reader: &mut Reader<'_>, layout: &Layout, now: Epoch) -> Result<States, DecodeError> {
    let partitions = layout.partitions() as usize;
    let mut stages = Vec::with_capacity(partitions);
    let mut since = Vec::with_capacity(partitions);
    for _ in 0..reader.count(RUN_BYTES_MIN)? {
        let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if length == 0 || length > partitions - stages.len() {
            return Err(reader.error("a run of too few or too many partitions"));
        }
        let stage = Stage::ALL.get(usize::from(reader.u8()?)).ok_or_else(|| reader.error("an unknown stage"))?;
        let epoch = now.0.checked_sub(reader.varint()?).filter(|&epoch| epoch > 0);
        let epoch = Epoch(epoch.ok_or_else(|| reader.error("a change before the first epoch"))?);
        if stages.last() == Some(stage) && since.last() == Some(&epoch) {
            return Err(reader.error("two runs that are one"));
        }
        stages.resize(stages.len() + length, *stage);
        since.resize(since.len() + length, epoch);
    }
    if stages.len() < partitions {
        return Err(reader.error("partitions are missing"));
    }
    Ok((stages.into(), since.into()))
}

fn number_of(stage: Stage) -> u8 {
    let place = Stage::ALL.iter().position(|&of| of == stage).expect("all of them");
    u8::try_from(place).expect("a handful")
}
