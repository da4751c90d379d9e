//! Changes of replicated data types as requests.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use kv_core::context::CausalContext;
use kv_core::crdt::{Update, UpdateRefused};
use kv_core::key::{Key, RecordKey};
use kv_core::limits::CRDT_DEPTH_MAX;
use kv_core::record::{OperationId, Rule};

use super::{Pending, Prepared, PutRequest, Table, told};
use crate::machine::Request;
use crate::quorum::Consistency;
use crate::request::{Attempt, Merged, Modify, Write, WriteError, Written};
use crate::session::Session;
use crate::session::state::Ticket;

/// Tables of replicated data types ([`TableOptions::crdt`](crate::TableOptions::crdt)). An operation that is not one of the
/// table's type is refused before anything is sent.
impl Table {
    /// Any change of the value of one key. What the other operations do, and the only way to reach into maps
    /// ([`Update::In`]).
    pub fn update(&self, key: impl Into<Key>, update: Update) -> UpdateRequest {
        UpdateRequest {
            table: self.clone(),
            key: key.into(),
            update,
            context: None,
            operation: self.operations.next(),
            attempt: Attempt::First,
            consistency: self.schema.options.writes,
            strict: false,
            session: None,
            patience: self.settings.deadline.as_duration(),
        }
    }

    /// Counts by an amount, which may be negative. (Counters.)
    ///
    /// When the outcome is ambiguous, [retry](UpdateRequest::retry) it under the same name: see there what is promised.
    pub fn increment(&self, key: impl Into<Key>, amount: i64) -> UpdateRequest {
        self.update(key, Update::Add(amount))
    }

    /// Inserts an element, or keeps it. Of an insert and a removal that have not seen each other, the insert stands. (Sets.)
    pub fn insert(&self, key: impl Into<Key>, element: impl Into<Vec<u8>>) -> UpdateRequest {
        self.update(key, Update::Insert(Bytes::from(element.into())))
    }

    /// Removes an element, or the entry under a key. (Sets, last-write-wins maps.)
    ///
    /// With a [context](UpdateRequest::context) it removes what the context covers; without, what the replica holds that
    /// coordinates it.
    pub fn remove(&self, key: impl Into<Key>, element: impl Into<Vec<u8>>) -> UpdateRequest {
        self.update(key, Update::Remove(Bytes::from(element.into())))
    }

    /// Sets the entry under a key of a map. (Last-write-wins maps.)
    pub fn set_entry(
        &self,
        key: impl Into<Key>,
        entry: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> UpdateRequest {
        self.update(key, Update::Put { key: Bytes::from(entry.into()), value: Bytes::from(value.into()) })
    }

    /// Enables a flag, in place of what was [seen](UpdateRequest::context) of it. (Flags.)
    pub fn enable(&self, key: impl Into<Key>) -> UpdateRequest {
        self.update(key, Update::Switch(true))
    }

    /// Disables a flag, in place of what was [seen](UpdateRequest::context) of it. (Flags.)
    pub fn disable(&self, key: impl Into<Key>) -> UpdateRequest {
        self.update(key, Update::Switch(false))
    }

    /// Offers a number, which stands if it tops all others: is the greatest, or the least. (Max and min registers.)
    pub fn offer(&self, key: impl Into<Key>, number: i64) -> UpdateRequest {
        self.update(key, Update::Offer(number))
    }

    /// Writes a value in place of those that were [seen](UpdateRequest::context). (Multi-value registers.)
    pub fn assign(&self, key: impl Into<Key>, value: impl Into<Vec<u8>>) -> UpdateRequest {
        self.update(key, Update::Write(Bytes::from(value.into())))
    }

    /// Writes the one value that a read was [merged](crate::request::Read::merged) to, in place of all that the read saw. (Tables
    /// of siblings.) Writes that it did not see stay beside it.
    pub fn write_back(&self, key: impl Into<Key>, merged: &Merged) -> PutRequest {
        self.put(key, merged.value.to_vec()).context(&merged.context)
    }
}

/// A change that has not begun. It does nothing until it is waited for.
///
/// It is made at one replica of the key, which gives it its place in the history, and travels from there to the others. The
/// context of an acknowledged change covers the change, but for additions to counters: a total holds what others have
/// counted, which whoever adds to it has not seen.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct UpdateRequest {
    pub(super) table: Table,
    pub(super) key: Key,
    pub(super) update: Update,
    pub(super) context: Option<CausalContext>,
    pub(super) operation: OperationId,
    pub(super) attempt: Attempt,
    pub(super) consistency: Consistency,
    pub(super) strict: bool,
    pub(super) session: Option<Session>,
    pub(super) patience: Duration,
}

impl UpdateRequest {
    /// What the client has seen, from an earlier read or change of the key: all that a removal takes, and all that a
    /// switch or an assignment replaces. Without it, that is what the replica holds which coordinates the change.
    pub fn context(mut self, context: impl Into<CausalContext>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Makes it a part of a session: later reads of the session see it, and it comes after all that the session has seen of the
    /// key. A replica that has seen less asks the others first, unless the change comes to the same in any order, as additions and
    /// inserts do. Without a [context](UpdateRequest::context) a removal takes what the replica holds, which is all that the
    /// session has seen, and what others have done meanwhile.
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// How many replicas must hold it durably before it is acknowledged.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// As that of [puts](PutRequest::strict).
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// How long to try.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The name of the operation, for a first attempt: a host that has names for its own requests can use those.
    pub const fn operation(mut self, operation: OperationId) -> Self {
        self.operation = operation;
        self
    }

    /// Asks again for an operation of that name whose outcome was ambiguous.
    ///
    /// An increment is not counted twice. It is acknowledged when the replica that is asked knows the first attempt: it has made
    /// it, or has heard of it and the actor that made it has not counted on more than a few times since. It is made now
    /// when this node remembers (for five minutes, in this life) that one replica only was asked, and that one has not
    /// been started again and has not made it. Otherwise nobody can tell, and the outcome is
    /// [`WriteError::Ambiguous`] again: read, and decide. Exactly-once increments across replicas are not promised.
    ///
    /// All other changes are made again, which comes to the same unless somebody has undone them in between.
    pub const fn retry(mut self, operation: OperationId) -> Self {
        self.operation = operation;
        self.attempt = Attempt::Again { asked: None };
        self
    }

    /// The name this request goes by.
    #[must_use]
    pub const fn operation_id(&self) -> OperationId {
        self.operation
    }

    /// Starts it and blocks until it is acknowledged or has failed.
    ///
    /// # Errors
    /// [`WriteError`], which says what is known of the change.
    pub fn wait(self) -> Result<Written, WriteError> {
        self.start().wait()
    }

    pub(super) fn start(self) -> Pending<Result<Written, WriteError>> {
        Pending::of(self.prepare())
    }

    pub(super) fn prepare(self) -> Result<Prepared<Result<Written, WriteError>>, WriteError> {
        let key = self.check()?;
        let Self { table, update, context, operation, attempt, consistency, strict, session, patience, .. } = self;
        let begun = session
            .map(|session| session.begin(|state| state.update(table.subject_of_write(&key, strict), consistency)));
        let (begun, after, consistency, strict) = match begun {
            None => (None, None, consistency, strict),
            Some((begun, after)) => {
                let Ticket { consistency, strict: settles, .. } = *begun.ticket();
                (Some((begun, key.clone())), after, consistency, strict || settles)
            }
        };
        let modify = Modify { key, update, context, after, operation, attempt, consistency, strict };
        let (request, convert) = (Request::Write(Write::Modify(Box::new(modify))), told(begun, false));
        Ok(Prepared { driver: table.driver, request, patience, convert })
    }

    pub(super) fn bytes(&self) -> usize {
        let context = self.context.as_ref().map_or(0, |context| context.as_bytes().len());
        self.key.partition.len() + self.key.sort.len() + self.update.payload_bytes() + context
    }

    /// What can be told without asking anybody.
    fn check(&self) -> Result<RecordKey, WriteError> {
        let key = RecordKey::new(self.table.schema.id, &self.key)?;
        let rule = self.table.schema.options.rule;
        let Rule::Crdt(kind) = rule else { return Err(WriteError::WrongTable { rule }) };
        if self.update.depth() > CRDT_DEPTH_MAX {
            return Err(UpdateRefused::TooDeep.into());
        }
        if !self.update.applies_to(kind) {
            return Err(UpdateRefused::WrongKind(kind).into());
        }
        let (bytes, bytes_max) = (self.update.payload_bytes(), self.table.settings.value_bytes_max);
        if bytes > bytes_max {
            return Err(WriteError::ValueTooLarge { bytes, bytes_max });
        }
        if let Some(context) = &self.context {
            context.open(&key)?;
        }
        Ok(key)
    }
}

impl IntoFuture for UpdateRequest {
    type Output = Result<Written, WriteError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}
