//! What a node's store remembers of its earlier lives, besides records and who the node is.

use std::ops::ControlFlow;

use kv_core::codec::{DecodeError, Reader};
use kv_core::hlc::Stamp;
use kv_core::store::{Direction, KeyRange, Space, StoreError};
use kv_core::{NodeId, View};
use thiserror::Error;

use crate::catalog::{Catalog, Founding, TableSchema};
use crate::comparison::Place;
use crate::floors::{Floor, read_floor};
use crate::hints::read_mark;
use crate::identity::Identity;
use crate::imports::read_note;
use crate::membership::FOUNDING_KEY;
use crate::mint::MARK_KEY;
use crate::peers::Peers;
use crate::repair::is_note;
use crate::schema::TABLE_KEY_PREFIX;

/// All of it.
pub(crate) struct Remembered {
    /// No stamp above it was minted.
    pub(crate) mark: Stamp,
    /// The cluster and its tables.
    pub(crate) catalog: Option<Catalog>,
    /// The other nodes, and in which lives they were met.
    pub(crate) peers: Peers,
    /// Which places a storage of which generation has got from others.
    pub(crate) imported: Vec<(Place, u64)>,
    /// Which places owe a comparison with whom.
    pub(crate) owed: Vec<(NodeId, Place)>,
    /// What was promised, settled and purged of which place.
    pub(crate) floors: Vec<(Place, Floor)>,
}

/// What the node stored about itself cannot be read.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The bytes are damaged.
    #[error("what the node stored about itself is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Remembered {
    /// Reads it.
    pub(crate) fn read(me: &Identity, view: &dyn View) -> Result<Self, RestoreError> {
        let mut mark = Stamp::ZERO;
        let mut founding = None;
        let mut tables = Vec::new();
        let mut peers = Peers::default();
        let mut owed = Vec::new();
        let mut imported = Vec::new();
        let mut floors = Vec::new();
        let mut damage: Result<(), DecodeError> = Ok(());
        view.scan(Space::META, KeyRange::ALL, Direction::Forward, &mut |key, value| {
            let mut reader = Reader::new(value);
            damage = (|| {
                if key == MARK_KEY {
                    mark = Stamp(reader.u64()?);
                } else if key == FOUNDING_KEY {
                    founding = Some(Founding::decode(&mut reader)?);
                } else if key.starts_with(TABLE_KEY_PREFIX) {
                    tables.push(TableSchema::decode(&mut reader)?);
                } else if let Some(note) = read_note(key, value)? {
                    imported.push(note);
                } else if let Some(mark) = read_mark(key, value)? {
                    owed.push(mark);
                } else if let Some(floor) = read_floor(key, value)? {
                    floors.push(floor);
                } else if !is_note(key) {
                    peers.restore(key, value)?;
                }
                Ok(())
            })();
            if damage.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        damage?;
        let mut catalog = founding.map(Catalog::new);
        if let Some(catalog) = &mut catalog {
            peers.learn(&catalog.peers(), me.node);
            for member in &catalog.founding().members {
                let node = member.member.node;
                if peers.life(node).is_some_and(|life| life.incarnation != member.incarnation) {
                    peers.replaced(node);
                }
            }
            for table in tables {
                if table.id != catalog.next_id() {
                    return Err(DecodeError { offset: 0, what: "table numbers with a gap" }.into());
                }
                catalog.add(table.into());
            }
        }
        Ok(Self { mark, catalog, peers, imported, owed, floors })
    }
}
