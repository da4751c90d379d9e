//! Any of the replicated data types, over bytes and numbers: what a table of them stores.
//!
//! ```text
//! crdt  := kind:u8  the store of that kind
//! kind  := 1 counter | 2 set | 3 last-write-wins map | 4 map | 5 enable-wins flag | 6 disable-wins flag
//!        | 7 max register | 8 min register | 9 multi-value register
//! field := kind:u8  name:prefixed             key of a map; what stands under it is of the same kind
//! ```

use bytes::Bytes;

use super::counter::PnCounter;
use super::dotted::{DotStore, Scope};
use super::element::Element;
use super::flag::{DisableWinsFlag, EnableWinsFlag};
use super::map::{LwwMap, OrMap};
use super::register::{MaxRegister, MinRegister, MvRegister};
use super::set::OrSet;
use crate::codec::{DecodeError, Reader};
use crate::version::{Dot, VersionVector};

/// Which data type.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Kind {
    /// [`PnCounter`].
    Counter,
    /// [`OrSet`] of bytes.
    Set,
    /// [`LwwMap`] from bytes to bytes.
    LwwMap,
    /// [`OrMap`] from fields to any of these types.
    Map,
    /// [`EnableWinsFlag`].
    EnableWinsFlag,
    /// [`DisableWinsFlag`].
    DisableWinsFlag,
    /// [`MaxRegister`] of numbers.
    MaxRegister,
    /// [`MinRegister`] of numbers.
    MinRegister,
    /// [`MvRegister`] of bytes.
    MvRegister,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Counter,
        Self::Set,
        Self::LwwMap,
        Self::Map,
        Self::EnableWinsFlag,
        Self::DisableWinsFlag,
        Self::MaxRegister,
        Self::MinRegister,
        Self::MvRegister,
    ];

    /// Its number in encodings.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Counter => 1,
            Self::Set => 2,
            Self::LwwMap => 3,
            Self::Map => 4,
            Self::EnableWinsFlag => 5,
            Self::DisableWinsFlag => 6,
            Self::MaxRegister => 7,
            Self::MinRegister => 8,
            Self::MvRegister => 9,
        }
    }

    /// The kind of a number, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Element for Kind {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_code(reader.u8()?).ok_or_else(|| reader.error("unknown kind of data type"))
    }
}

/// The key of a map of data types. Two fields of one name and two kinds are two fields, so that replicas which disagree on the
/// kind disagree on nothing else.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Field {
    /// What stands under it.
    pub kind: Kind,
    /// Its name.
    pub name: Bytes,
}

impl Element for Field {
    fn encode(&self, out: &mut Vec<u8>) {
        self.kind.encode(out);
        self.name.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { kind: Kind::decode(reader)?, name: Bytes::decode(reader)? })
    }
}

/// Any of the data types. Its kind never changes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Crdt {
    /// See [`Kind::Counter`].
    Counter(PnCounter),
    /// See [`Kind::Set`].
    Set(OrSet<Bytes>),
    /// See [`Kind::LwwMap`].
    LwwMap(LwwMap<Bytes, Bytes>),
    /// See [`Kind::Map`].
    Map(OrMap<Field, Crdt>),
    /// See [`Kind::EnableWinsFlag`].
    EnableWinsFlag(EnableWinsFlag),
    /// See [`Kind::DisableWinsFlag`].
    DisableWinsFlag(DisableWinsFlag),
    /// See [`Kind::MaxRegister`].
    MaxRegister(MaxRegister<i64>),
    /// See [`Kind::MinRegister`].
    MinRegister(MinRegister<i64>),
    /// See [`Kind::MvRegister`].
    MvRegister(MvRegister<Bytes>),
}

/// Does the same with whichever store it is.
macro_rules! whichever {
    ($crdt:expr, $store:ident => $do:expr) => {
        match $crdt {
            Crdt::Counter($store) => $do,
            Crdt::Set($store) => $do,
            Crdt::LwwMap($store) => $do,
            Crdt::Map($store) => $do,
            Crdt::EnableWinsFlag($store) => $do,
            Crdt::DisableWinsFlag($store) => $do,
            Crdt::MaxRegister($store) => $do,
            Crdt::MinRegister($store) => $do,
            Crdt::MvRegister($store) => $do,
        }
    };
}

impl Crdt {
    /// The value of `kind` that nobody has changed.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(PnCounter::default()),
            Kind::Set => Self::Set(OrSet::default()),
            Kind::LwwMap => Self::LwwMap(LwwMap::default()),
            Kind::Map => Self::Map(OrMap::default()),
            Kind::EnableWinsFlag => Self::EnableWinsFlag(EnableWinsFlag::default()),
            Kind::DisableWinsFlag => Self::DisableWinsFlag(DisableWinsFlag::default()),
            Kind::MaxRegister => Self::MaxRegister(MaxRegister::default()),
            Kind::MinRegister => Self::MinRegister(MinRegister::default()),
            Kind::MvRegister => Self::MvRegister(MvRegister::default()),
        }
    }

    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Set(_) => Kind::Set,
            Self::LwwMap(_) => Kind::LwwMap,
            Self::Map(_) => Kind::Map,
            Self::EnableWinsFlag(_) => Kind::EnableWinsFlag,
            Self::DisableWinsFlag(_) => Kind::DisableWinsFlag,
            Self::MaxRegister(_) => Kind::MaxRegister,
            Self::MinRegister(_) => Kind::MinRegister,
            Self::MvRegister(_) => Kind::MvRegister,
        }
    }

    fn check_fields(self, reader: &Reader<'_>) -> Result<Self, DecodeError> {
        match &self {
            Self::Map(fields) if !fields.all_kept(|field, value| field.kind == value.kind()) => {
                Err(reader.error("a field over a value of another kind"))
            }
            _ => Ok(self),
        }
    }
}

impl DotStore for Crdt {
    fn is_bottom(&self) -> bool {
        whichever!(self, store => store.is_bottom())
    }

    fn is_live(&self) -> bool {
        whichever!(self, store => store.is_live())
    }

    fn join(&mut self, seen: &VersionVector, other: &Self, other_seen: &VersionVector) {
        match (self, other) {
            (Self::Counter(mine), Self::Counter(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::Set(mine), Self::Set(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::LwwMap(mine), Self::LwwMap(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::Map(mine), Self::Map(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::EnableWinsFlag(mine), Self::EnableWinsFlag(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::DisableWinsFlag(mine), Self::DisableWinsFlag(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::MaxRegister(mine), Self::MaxRegister(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::MinRegister(mine), Self::MinRegister(theirs)) => mine.join(seen, theirs, other_seen),
            (Self::MvRegister(mine), Self::MvRegister(theirs)) => mine.join(seen, theirs, other_seen),
            (mine, theirs) => {
                panic!("records and fields carry their kind, so {:?} never meets {:?}", mine.kind(), theirs.kind())
            }
        }
    }

    fn forget(&mut self, other_seen: &VersionVector) {
        whichever!(self, store => store.forget(other_seen));
    }

    fn clear(&self, seen: &VersionVector, removed: &mut Vec<Dot>) -> Self {
        match self {
            Self::Counter(store) => Self::Counter(store.clear(seen, removed)),
            Self::Set(store) => Self::Set(store.clear(seen, removed)),
            Self::LwwMap(store) => Self::LwwMap(store.clear(seen, removed)),
            Self::Map(store) => Self::Map(store.clear(seen, removed)),
            Self::EnableWinsFlag(store) => Self::EnableWinsFlag(store.clear(seen, removed)),
            Self::DisableWinsFlag(store) => Self::DisableWinsFlag(store.clear(seen, removed)),
            Self::MaxRegister(store) => Self::MaxRegister(store.clear(seen, removed)),
            Self::MinRegister(store) => Self::MinRegister(store.clear(seen, removed)),
            Self::MvRegister(store) => Self::MvRegister(store.clear(seen, removed)),
        }
    }

    fn encode(&self, scope: Scope<'_>, out: &mut Vec<u8>) {
        self.kind().encode(out);
        whichever!(self, store => store.encode(scope, out));
    }

    fn decode(reader: &mut Reader<'_>, scope: Scope<'_>) -> Result<Self, DecodeError> {
        match Kind::decode(reader)? {
            Kind::Counter => PnCounter::decode(reader, scope).map(Self::Counter),
            Kind::Set => DotStore::decode(reader, scope).map(Self::Set),
            Kind::LwwMap => DotStore::decode(reader, scope).map(Self::LwwMap),
            Kind::Map => OrMap::decode(reader, scope).map(Self::Map)?.check_fields(reader),
            Kind::EnableWinsFlag => DotStore::decode(reader, scope).map(Self::EnableWinsFlag),
            Kind::DisableWinsFlag => DotStore::decode(reader, scope).map(Self::DisableWinsFlag),
            Kind::MaxRegister => DotStore::decode(reader, scope).map(Self::MaxRegister),
            Kind::MinRegister => DotStore::decode(reader, scope).map(Self::MinRegister),
            Kind::MvRegister => DotStore::decode(reader, scope).map(Self::MvRegister),
        }
    }
}
