//! Requests as values that are built, then waited for: `.wait()` blocks, `.await` does not and needs no runtime.

mod batch;
mod describe;
mod pending;
mod scan;
mod update;

pub use batch::{PendingBatch, ReadBatch, WriteBatch, WriteRequest};
pub use describe::DescribeRequest;
pub use pending::Pending;
pub use scan::ScanRequest;
pub use update::UpdateRequest;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::context::CausalContext;
use kv_core::crdt::Update;
use kv_core::expiry::InvalidTtl;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload, Rule};
use kv_core::time::Millis;
use kv_ring::Layout;

use self::pending::{Convert, Prepared};
use crate::catalog::TableSchema;
use crate::config::Settings;
use crate::driver::Driver;
use crate::machine::{Outcome, Request};
use crate::quorum::Consistency;
use crate::repair_request::{RepairError, RepairReport, RepairScope};
use crate::request::{Get, Put, Read, ReadError, Write, WriteError, Written};
use crate::session::state::{Subject, Ticket};
use crate::session::{Session, UnderWay};
use crate::table_options::TableOptions;

/// A table of the cluster, as this node sees it. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    driver: Arc<Driver>,
    schema: Arc<TableSchema>,
    settings: Settings,
    operations: Arc<Operations>,
}

/// Names for operations: random for each life of a node, counted within it.
#[derive(Debug)]
pub(crate) struct Operations {
    life: u64,
    next: AtomicU64,
}

impl Operations {
    pub(crate) const fn new(life: u64) -> Self {
        Self { life, next: AtomicU64::new(1) }
    }

    fn next(&self) -> OperationId {
        OperationId((u128::from(self.life) << 64) | u128::from(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Table {
    pub(crate) const fn new(
        driver: Arc<Driver>,
        schema: Arc<TableSchema>,
        settings: Settings,
        operations: Arc<Operations>,
    ) -> Self {
        Self { driver, schema, settings, operations }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.schema.name
    }

    /// Which nodes hold which keys.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.schema.layout
    }

    /// A write of one key.
    ///
    /// In a siblings table it replaces what its [context](PutRequest::context) covers and stands beside everything else. In
    /// a last-write-wins table it replaces what is older than it.
    pub fn put(&self, key: impl Into<Key>, value: impl Into<Vec<u8>>) -> PutRequest {
        self.write(key.into(), Payload::Value(value.into().into()))
    }

    /// A delete of one key: a write of a tombstone, or the removal of all parts of a data type.
    ///
    /// With a context it removes what the context covers; without, what the replica that coordinates it holds. Writes that
    /// it has not seen survive it.
    pub fn delete(&self, key: impl Into<Key>) -> PutRequest {
        self.write(key.into(), Payload::Tombstone)
    }

    fn write(&self, key: Key, payload: Payload) -> PutRequest {
        PutRequest {
            table: self.clone(),
            key,
            payload,
            context: None,
            ttl: None,
            operation: self.operations.next(),
            consistency: self.schema.options.writes,
            strict: false,
            session: None,
            patience: self.settings.deadline.as_duration(),
        }
    }

    /// Whether what was seen once stays to be seen: not in a cache.
    fn has_sessions(&self) -> bool {
        self.schema.options.is_replicated_durably()
    }

    /// A key of this table, as sessions see it.
    fn subject<'a>(&self, key: &'a RecordKey) -> Subject<'a> {
        let TableOptions { rule, replicas, sloppy, .. } = self.schema.options;
        Subject { key, rule, replicas, sloppy }
    }

    /// The same for a write, which may want replicas alone to count.
    fn subject_of_write<'a>(&self, key: &'a RecordKey, strict: bool) -> Subject<'a> {
        let subject = self.subject(key);
        Subject { sloppy: subject.sloppy && !strict, ..subject }
    }

    /// A read of one key.
    pub fn get(&self, key: impl Into<Key>) -> GetRequest {
        GetRequest {
            table: self.clone(),
            key: key.into(),
            consistency: self.schema.options.reads,
            session: None,
            patience: self.settings.deadline.as_duration(),
        }
    }
}

/// A write that has not begun. It does nothing until it is waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct PutRequest {
    table: Table,
    key: Key,
    payload: Payload,
    context: Option<CausalContext>,
    ttl: Option<Duration>,
    operation: OperationId,
    consistency: Consistency,
    strict: bool,
    session: Option<Session>,
    patience: Duration,
}

impl PutRequest {
    /// What the writer has seen, from an earlier read or write of the key.
    pub fn context(mut self, context: impl Into<CausalContext>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// How long the value is visible; at least a millisecond.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How many replicas must hold it durably before it is acknowledged, and in which zones.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// In a [sloppy](crate::TableOptions::sloppy) table: replicas alone count, and reads that meet the level see the write. In
    /// other tables that is always so.
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Makes it a part of a session. Unless it has a [context](PutRequest::context) of its own, it replaces what the session has
    /// seen of the key; later reads of the session see it. (In a table of a data type it is an
    /// [update](UpdateRequest::session). Cache tables have no sessions: what was seen there may be gone.)
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// How long to try.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The name of the operation, to retry one whose outcome was ambiguous. A replica that still holds the first attempt
    /// knows the second for a copy, and two copies of it count as one value when read.
    pub const fn operation(mut self, operation: OperationId) -> Self {
        self.operation = operation;
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
    /// [`WriteError`], which says what is known of the write.
    pub fn wait(self) -> Result<Written, WriteError> {
        self.start().wait()
    }

    fn start(self) -> Pending<Result<Written, WriteError>> {
        Pending::of(self.prepare())
    }

    fn prepare(self) -> Result<Prepared<Result<Written, WriteError>>, WriteError> {
        let Self { table, key: name, payload, mut context, ttl, operation, consistency, strict, session, patience } =
            self;
        let key = check_put(&table, &name, &payload, context.as_ref(), ttl)?;
        let is_tombstone = payload == Payload::Tombstone;
        if let Rule::Crdt(_) = table.schema.options.rule {
            let request = UpdateRequest {
                context,
                operation,
                consistency,
                strict,
                session,
                patience,
                ..table.update(name, Update::Clear)
            };
            return request.prepare();
        }
        let begun = session.filter(|_| table.has_sessions()).map(|session| {
            let context = context.take();
            session.begin(|state| state.write(table.subject_of_write(&key, strict), consistency, context))
        });
        let (begun, context, consistency, strict) = match begun {
            None => (None, context, consistency, strict),
            Some((begun, context)) => {
                let Ticket { consistency, strict: settles, .. } = *begun.ticket();
                (Some((begun, key.clone())), context, consistency, strict || settles)
            }
        };
        let put = Put { key, payload, context, ttl: ttl.map(Millis::from), operation, consistency, strict };
        let (request, convert) = (Request::Write(Write::Put(Box::new(put))), told(begun, is_tombstone));
        Ok(Prepared { driver: table.driver, request, patience, convert })
    }
}

/// Tells the session of a write, if it is part of one, what has come of it.
fn told(begun: Option<(UnderWay, RecordKey)>, is_tombstone: bool) -> Convert<Result<Written, WriteError>> {
    let Some((begun, key)) = begun else { return Convert::Plain(written) };
    Convert::Boxed(Box::new(move |outcome| {
        let outcome = written(outcome);
        if let Ok(written) = &outcome {
            begun.end(|state, ticket| state.wrote(ticket, is_tombstone, &key, written));
        }
        outcome
    }))
}

fn written(outcome: Option<Outcome>) -> Result<Written, WriteError> {
    match outcome {
        Some(Outcome::Put(outcome)) => outcome,
        _ => Err(WriteError::Stopped),
    }
}

/// What can be told without asking anybody.
fn check_put(
    table: &Table,
    key: &Key,
    payload: &Payload,
    context: Option<&CausalContext>,
    ttl: Option<Duration>,
) -> Result<RecordKey, WriteError> {
    let key = RecordKey::new(table.schema.id, key)?;
    if let Payload::Value(value) = payload
        && value.len() > table.settings.value_bytes_max
    {
        return Err(WriteError::ValueTooLarge { bytes: value.len(), bytes_max: table.settings.value_bytes_max });
    }
    if let Some(context) = context {
        context.open(&key)?;
    }
    let rule = table.schema.options.rule;
    if let Rule::Crdt(_) = rule {
        if ttl.is_some() {
            return Err(WriteError::TtlOnDataType);
        }
        if let Payload::Value(_) = payload {
            return Err(WriteError::WrongTable { rule });
        }
    }
    if let Some(ttl) = ttl.map(Millis::from) {
        if ttl == Millis::ZERO {
            return Err(InvalidTtl::Zero.into());
        }
        if let Some(ttl_max) = table.schema.options.ttl_max.filter(|ttl_max| ttl > *ttl_max) {
            return Err(WriteError::TtlOverMaximum { ttl, ttl_max });
        }
    }
    Ok(key)
}

impl IntoFuture for PutRequest {
    type Output = Result<Written, WriteError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

/// A read that has not begun. It does nothing until it is waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct GetRequest {
    table: Table,
    key: Key,
    consistency: Consistency,
    session: Option<Session>,
    patience: Duration,
}

impl GetRequest {
    /// How many replicas must agree, or be made to agree, before it is answered, and in which zones.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Makes it a part of a session. It sees no less of the key than the session has written and seen before. (Cache tables have
    /// no sessions.)
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// How long to try.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it and blocks until it is answered or has failed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn wait(self) -> Result<Read, ReadError> {
        self.start().wait()
    }

    fn start(self) -> Pending<Result<Read, ReadError>> {
        Pending::of(self.prepare())
    }

    fn prepare(self) -> Result<Prepared<Result<Read, ReadError>>, ReadError> {
        let Self { table, key, consistency, session, patience } = self;
        let key = RecordKey::new(table.schema.id, &key)?;
        let Some(session) = session.filter(|_| table.has_sessions()) else {
            let request = Request::Get(Get { key, consistency, floor: None });
            return Ok(Prepared { driver: table.driver, request, patience, convert: Convert::Plain(read) });
        };
        let (begun, floor) = session.begin(|state| state.read(table.subject(&key), consistency));
        let request = Request::Get(Get { key, consistency: begun.ticket().consistency, floor: Some(floor) });
        let convert = move |outcome| {
            let outcome = read(outcome);
            if let Ok(read) = &outcome {
                begun.end(|state, ticket| state.saw(ticket, read));
            }
            outcome
        };
        Ok(Prepared { driver: table.driver, request, patience, convert: Convert::Boxed(Box::new(convert)) })
    }
}

fn read(outcome: Option<Outcome>) -> Result<Read, ReadError> {
    match outcome {
        Some(Outcome::Get(outcome)) => outcome,
        _ => Err(ReadError::Stopped),
    }
}

impl IntoFuture for GetRequest {
    type Output = Result<Read, ReadError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

/// A repair that has not begun. It does nothing until it is waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct RepairRequest {
    driver: Arc<Driver>,
    scope: RepairScope,
    patience: Duration,
}

impl RepairRequest {
    pub(crate) const fn new(driver: Arc<Driver>, scope: RepairScope) -> Self {
        Self { driver, scope, patience: Duration::MAX }
    }

    /// How long to try; without end unless said otherwise.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it and blocks until every comparison has ended. What was exchanged is durable at both replicas then.
    ///
    /// # Errors
    /// [`RepairError`]; what was exchanged stays.
    pub fn wait(self) -> Result<RepairReport, RepairError> {
        self.start().wait()
    }

    fn start(self) -> Pending<Result<RepairReport, RepairError>> {
        let receiver = self.driver.request(Request::Repair(self.scope), self.patience);
        let repaired = |outcome| match outcome {
            Some(Outcome::Repair(outcome)) => outcome,
            _ => Err(RepairError::Stopped),
        };
        Pending::waiting(receiver, Convert::Plain(repaired))
    }
}

impl IntoFuture for RepairRequest {
    type Output = Result<RepairReport, RepairError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}
