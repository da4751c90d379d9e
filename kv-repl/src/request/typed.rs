//! What a read gives of a replicated data type, and of siblings that the application merges.

use bytes::Bytes;
use kv_core::context::CausalContext;
use kv_core::crdt::{Crdt, DotStore, Field, Kind};

use super::{Read, WrongType};

/// One value for all siblings of a read: what [`Read::merged`] gives and [`Table::write_back`](crate::Table::write_back)
/// takes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Merged {
    /// The value.
    pub value: Bytes,
    /// Whether it was made of several, and no replica holds it yet.
    pub is_new: bool,
    pub(crate) context: CausalContext,
}

impl Read {
    /// Whether nothing is there: the key was never written, or all of it was deleted or has expired.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match (&self.record, self.kind) {
            (None, _) => true,
            (Some(record), Some(_)) => record.crdt().is_none_or(|value| !value.is_live()),
            (Some(_), None) => self.values().is_empty(),
        }
    }

    /// The value of a counter: everything counted and not removed; zero when it was never counted.
    ///
    /// # Errors
    /// [`WrongType`] in a table of another kind; so with all that follow.
    pub fn counter(&self) -> Result<i128, WrongType> {
        match self.of("counter", &[Kind::Counter])? {
            Some(Crdt::Counter(counter)) => Ok(counter.value()),
            _ => Ok(0),
        }
    }

    /// The elements of a set, in order.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn set(&self) -> Result<Vec<&Bytes>, WrongType> {
        match self.of("set", &[Kind::Set])? {
            Some(Crdt::Set(set)) => Ok(set.iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The entries of a last-write-wins map, in the order of their keys.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn entries(&self) -> Result<Vec<(&Bytes, &Bytes)>, WrongType> {
        match self.of("last-write-wins map", &[Kind::LwwMap])? {
            Some(Crdt::LwwMap(map)) => Ok(map.iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The fields of a map and what stands under them, in order.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn fields(&self) -> Result<Vec<(&Field, &Crdt)>, WrongType> {
        match self.of("map", &[Kind::Map])? {
            Some(Crdt::Map(map)) => Ok(map.iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether a flag is enabled; a flag that nobody has written is not.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn flag(&self) -> Result<bool, WrongType> {
        match self.of("flag", &[Kind::EnableWinsFlag, Kind::DisableWinsFlag])? {
            Some(Crdt::EnableWinsFlag(flag)) => Ok(flag.is_enabled()),
            Some(Crdt::DisableWinsFlag(flag)) => Ok(flag.is_enabled()),
            _ => Ok(false),
        }
    }

    /// The value of a max or min register, if one was offered.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn number(&self) -> Result<Option<i64>, WrongType> {
        match self.of("max or min register", &[Kind::MaxRegister, Kind::MinRegister])? {
            Some(Crdt::MaxRegister(register)) => Ok(register.value().copied()),
            Some(Crdt::MinRegister(register)) => Ok(register.value().copied()),
            _ => Ok(None),
        }
    }

    /// The values of a multi-value register, each once, in order: several when they were written without having seen each other.
    ///
    /// # Errors
    /// [`WrongType`].
    pub fn register(&self) -> Result<Vec<&Bytes>, WrongType> {
        match self.of("multi-value register", &[Kind::MvRegister])? {
            Some(Crdt::MvRegister(register)) => Ok(register.values()),
            _ => Ok(Vec::new()),
        }
    }

    /// The value of a data type, or nothing when the key was never written, if the table is of one of these kinds.
    fn of(&self, wanted: &'static str, kinds: &[Kind]) -> Result<Option<&Crdt>, WrongType> {
        match self.kind {
            Some(kind) if kinds.contains(&kind) => Ok(self.record().and_then(|record| record.crdt())),
            held => Err(WrongType { held, wanted }),
        }
    }

    /// One value for all of [`Read::values`]: the only one there is, or what `merge` makes of several, oldest first. Nothing
    /// when there is none.
    ///
    /// Give it to [`Table::write_back`](crate::Table::write_back), so that the next reader finds one value. Two readers may do
    /// so at once, and what they wrote stands side by side again; so that this ends, equal values must give equal bytes in any
    /// order, and a merge merged with what went into it must give the merge. [`kv_core::conflict::unfair`] looks for cases in which
    /// they do not. (The application's part in resolving conflicts as in Dynamo, where it is the shopping cart.)
    pub fn merged(&self, merge: impl FnOnce(&[&Bytes]) -> Bytes) -> Option<Merged> {
        let values = self.values();
        let value = match values.as_slice() {
            [] => return None,
            [only] => (*only).clone(),
            several => merge(several),
        };
        Some(Merged { value, is_new: values.len() > 1, context: self.context().clone() })
    }
}
