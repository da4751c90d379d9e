//! A change of a replicated data type as a value: what a client asks for, and a replica turns into a change under a dot.
//!
//! ```text
//! update := op:u8  fields
//! op     := 1 add amount:signed varint | 2 insert element:prefixed | 3 remove key:prefixed | 4 put key:prefixed value:prefixed
//!         | 5 switch on:u8 | 6 offer number:signed varint | 7 write value:prefixed | 8 clear
//!         | 9 in field:field update | 10 remove field:field
//! ```

use bytes::Bytes;
use thiserror::Error;

use super::any::{Crdt, Field, Kind};
use super::counter::CounterOverflow;
use super::dotted::{DotStore, Dotted};
use super::element::Element;
use crate::codec::{DecodeError, Reader};
use crate::hlc::Stamp;
use crate::limits::CRDT_DEPTH_MAX;
use crate::operation::OperationId;
use crate::version::{Dot, VersionVector};

/// What a client asks of a [`Crdt`].
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Update {
    /// Counts by an amount, which may be negative.
    Add(i64),
    /// Inserts an element into a set.
    Insert(Bytes),
    /// Removes an element of a set, or a key of a last-write-wins map.
    Remove(Bytes),
    /// Sets a key of a last-write-wins map.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Switches a flag on or off.
    Switch(bool),
    /// Offers a number to a max or min register.
    Offer(i64),
    /// Writes a multi-value register.
    Write(Bytes),
    /// Updates what stands under a field of a map.
    In(Field, Box<Update>),
    /// Removes a field of a map.
    RemoveField(Field),
    /// Removes everything.
    Clear,
}

/// What a replica gives an update: everything about it that is not the client's.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Mint {
    /// The name of the change.
    pub dot: Dot,
    /// When it was made.
    pub birth: Stamp,
    /// The client's name for it.
    pub operation: Option<OperationId>,
}

/// An update that cannot be made. Nothing was changed.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
pub enum UpdateRefused {
    /// The update is of another type.
    #[error("a {0:?} has no such update")]
    WrongKind(Kind),
    /// What is to be removed or replaced was seen elsewhere, and has not arrived here: which of it the client means cannot be
    /// told. Join another replica's state and try again.
    #[error("the context is ahead of this replica")]
    ContextAhead,
    /// See [`CounterOverflow`].
    #[error(transparent)]
    Overflow(#[from] CounterOverflow),
    /// Maps would nest deeper than [`CRDT_DEPTH_MAX`].
    #[error("maps nest at most {CRDT_DEPTH_MAX} deep")]
    TooDeep,
}

impl Update {
    /// Whether it removes, so that what the client has seen matters.
    #[must_use]
    pub fn removes(&self) -> bool {
        match self {
            Self::Remove(_) | Self::RemoveField(_) | Self::Clear => true,
            Self::In(_, update) => update.removes(),
            _ => false,
        }
    }

    /// Whether it adds to a counter, so that doing it twice is not doing it once.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self {
            Self::Add(_) => true,
            Self::In(_, update) => update.counts(),
            _ => false,
        }
    }

    /// Whether it comes to the same in whatever order it and others are made. (A put of a last-write-wins map does not: it is the
    /// last of those that its replica knows.)
    #[must_use]
    pub fn commutes(&self) -> bool {
        match self {
            Self::Add(_) | Self::Insert(_) | Self::Offer(_) => true,
            Self::In(_, update) => update.commutes(),
            _ => false,
        }
    }

    /// Whether it replaces or removes what is there, and not only adds to it.
    #[must_use]
    pub fn replaces(&self) -> bool {
        match self {
            Self::Switch(_) | Self::Write(_) => true,
            Self::In(_, update) => update.replaces(),
            _ => self.removes(),
        }
    }

    /// Whether a value of `kind` takes it.
    #[must_use]
    pub fn applies_to(&self, kind: Kind) -> bool {
        match self {
            Self::Add(_) => kind == Kind::Counter,
            Self::Insert(_) => kind == Kind::Set,
            Self::Remove(_) => matches!(kind, Kind::Set | Kind::LwwMap),
            Self::Put { .. } => kind == Kind::LwwMap,
            Self::Switch(_) => matches!(kind, Kind::EnableWinsFlag | Kind::DisableWinsFlag),
            Self::Offer(_) => matches!(kind, Kind::MaxRegister | Kind::MinRegister),
            Self::Write(_) => kind == Kind::MvRegister,
            Self::In(field, update) => kind == Kind::Map && update.applies_to(field.kind),
            Self::RemoveField(_) => kind == Kind::Map,
            Self::Clear => true,
        }
    }

    /// The bytes of the client's that it carries: elements, keys, values and names of fields.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Insert(bytes) | Self::Remove(bytes) | Self::Write(bytes) => bytes.len(),
            Self::Put { key, value } => key.len() + value.len(),
            Self::In(field, update) => field.name.len() + update.payload_bytes(),
            Self::RemoveField(field) => field.name.len(),
            Self::Add(_) | Self::Switch(_) | Self::Offer(_) | Self::Clear => 0,
        }
    }

    /// Levels of fields it reaches through.
    #[must_use]
    pub fn depth(&self) -> usize {
        let (mut depth, mut update) = (0, self);
        while let Self::In(_, inner) = update {
            (depth, update) = (depth + 1, inner);
        }
        depth
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut op = |code: u8, part: &dyn Fn(&mut Vec<u8>)| {
            out.push(code);
            part(out);
        };
        match self {
            Self::Add(amount) => op(1, &|out| amount.encode(out)),
            Self::Insert(element) => op(2, &|out| element.encode(out)),
            Self::Remove(key) => op(3, &|out| key.encode(out)),
            Self::Put { key, value } => op(4, &|out| {
                key.encode(out);
                value.encode(out);
            }),
            Self::Switch(on) => op(5, &|out| on.encode(out)),
            Self::Offer(number) => op(6, &|out| number.encode(out)),
            Self::Write(value) => op(7, &|out| value.encode(out)),
            Self::Clear => op(8, &|_| {}),
            Self::In(field, update) => op(9, &|out| {
                field.encode(out);
                update.encode(out);
            }),
            Self::RemoveField(field) => op(10, &|out| field.encode(out)),
        }
    }

    /// Reads what [`Update::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not an update, or one that reaches deeper than [`CRDT_DEPTH_MAX`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_within(reader, CRDT_DEPTH_MAX)
    }

    fn decode_within(reader: &mut Reader<'_>, depth_left: usize) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Add(i64::decode(reader)?),
            2 => Self::Insert(Bytes::decode(reader)?),
            3 => Self::Remove(Bytes::decode(reader)?),
            4 => Self::Put { key: Bytes::decode(reader)?, value: Bytes::decode(reader)? },
            5 => Self::Switch(bool::decode(reader)?),
            6 => Self::Offer(i64::decode(reader)?),
            7 => Self::Write(Bytes::decode(reader)?),
            8 => Self::Clear,
            9 => {
                let depth_left = depth_left.checked_sub(1).ok_or_else(|| reader.error("an update nested too deep"))?;
                let field = Field::decode(reader)?;
                Self::In(field, Box::new(Self::decode_within(reader, depth_left)?))
            }
            10 => Self::RemoveField(Field::decode(reader)?),
            _ => return Err(reader.error("unknown update")),
        })
    }
}

impl Dotted<Crdt> {
    /// The change that `update` makes to this state. Joined to this state, or to any other, it does what the client asked.
    ///
    /// A removal takes what is held here, and of that only what `seen` covers, when the client says what it had seen; so does
    /// what a switch or a write replaces.
    ///
    /// The change covers the dot of `mint` also when it only removes. A retry of a counter's operation that is known here
    /// gives the earlier change again, without that dot.
    ///
    /// # Errors
    /// [`UpdateRefused`].
    pub fn change(&self, mint: Mint, seen: Option<&VersionVector>, update: &Update) -> Result<Self, UpdateRefused> {
        // A map below a map costs a level, and so does the one at the top.
        if update.depth() > CRDT_DEPTH_MAX {
            return Err(UpdateRefused::TooDeep);
        }
        if update.replaces() && seen.is_some_and(|seen| !self.context().covers(seen)) {
            return Err(UpdateRefused::ContextAhead);
        }
        let seen_here = seen.unwrap_or(self.context());
        let mut change = change(self.value(), mint, seen_here, update)?;
        let counted = mint.operation.and_then(|operation| self.value().counted(update, operation));
        if counted.is_none() {
            change.cover(mint.dot);
        }
        Ok(change)
    }
}

fn change(value: &Crdt, mint: Mint, seen: &VersionVector, update: &Update) -> Result<Dotted<Crdt>, UpdateRefused> {
    let Mint { dot, birth, operation } = mint;
    Ok(match (value, update) {
        (Crdt::Counter(counter), Update::Add(amount)) => counter.add(dot, *amount, operation)?.map(Crdt::Counter),
        (Crdt::Set(set), Update::Insert(element)) => set.insert(dot, element.clone()).map(Crdt::Set),
        (Crdt::Set(set), Update::Remove(element)) => set.remove(element, seen).map(Crdt::Set),
        (Crdt::LwwMap(map), Update::Put { key, value }) => {
            map.put(dot, birth, key.clone(), value.clone()).map(Crdt::LwwMap)
        }
        (Crdt::LwwMap(map), Update::Remove(key)) => map.remove(key, seen).map(Crdt::LwwMap),
        (Crdt::EnableWinsFlag(flag), Update::Switch(on)) => flag.switch_seen(dot, *on, seen).map(Crdt::EnableWinsFlag),
        (Crdt::DisableWinsFlag(flag), Update::Switch(on)) => {
            flag.switch_seen(dot, *on, seen).map(Crdt::DisableWinsFlag)
        }
        (Crdt::MaxRegister(register), Update::Offer(number)) => register.offer(dot, *number).map(Crdt::MaxRegister),
        (Crdt::MinRegister(register), Update::Offer(number)) => register.offer(dot, *number).map(Crdt::MinRegister),
        (Crdt::MvRegister(register), Update::Write(value)) => {
            register.write_seen(dot, value.clone(), seen).map(Crdt::MvRegister)
        }
        (Crdt::Map(map), Update::In(field, update)) => map
            .try_update(field.clone(), &Crdt::empty(field.kind), |value| change(value, mint, seen, update))?
            .map(Crdt::Map),
        (Crdt::Map(map), Update::RemoveField(field)) => map.remove(field, seen).map(Crdt::Map),
        (value, Update::Clear) => {
            let mut removed = Vec::new();
            Dotted::of(value.clear(seen, &mut removed), removed.into_iter().collect())
        }
        (value, _) => return Err(UpdateRefused::WrongKind(value.kind())),
    })
}

impl Crdt {
    /// Where `update` adds to a counter: the dot under which an actor last counted there that knows `operation` by name,
    /// if one does. The update is then a retry, and this state has counted it.
    #[must_use]
    pub fn counted(&self, update: &Update, operation: OperationId) -> Option<Dot> {
        match (self, update) {
            (Self::Counter(counter), Update::Add(_)) => counter.counted(operation),
            (Self::Map(fields), Update::In(field, update)) => fields.kept(field)?.counted(update, operation),
            _ => None,
        }
    }
}
