//! Many reads, or many writes, as one request.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kv_core::key::Key;
use kv_core::record::{OperationId, Payload};

use super::pending::{Pending, Prepared};
use super::{GetRequest, PutRequest, Table, UpdateRequest};
use crate::config::Settings;
use crate::driver::Driver;
use crate::quorum::Consistency;
use crate::request::{BatchError, Read, ReadError, WriteError, Written};
use crate::session::Session;

/// Batches: each request in one is what it would be by itself, with an outcome of its own. What they have in common is the way:
/// the node sends each other node at most one message for all of them, as far as frames can carry it, and gets one back.
///
/// A batch is not a transaction. Some of it may fail, and others may see some of it before the rest.
impl Table {
    /// Reads of several keys. Outcomes come in the order of the keys.
    pub fn get_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> ReadBatch {
        let reads = keys.into_iter().map(|key| self.get(key)).collect();
        ReadBatch { settings: self.settings, reads }
    }

    /// Writes of several keys. Outcomes come in the order of the entries. A key that occurs twice is written twice, in order.
    pub fn put_many<K: Into<Key>, V: Into<Vec<u8>>>(&self, entries: impl IntoIterator<Item = (K, V)>) -> WriteBatch {
        self.write_many(entries.into_iter().map(|(key, value)| self.put(key, value)))
    }

    /// Deletes of several keys.
    pub fn delete_many<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> WriteBatch {
        self.write_many(keys.into_iter().map(|key| self.delete(key)))
    }

    /// Writes that were built one by one, each with its own context, time to live, operation and so on: puts, deletes, and changes of
    /// data types, of this table and of others of the same node.
    pub fn write_many<W: Into<WriteRequest>>(&self, writes: impl IntoIterator<Item = W>) -> WriteBatch {
        WriteBatch { settings: self.settings, writes: writes.into_iter().map(Into::into).collect() }
    }
}

/// Reads that have not begun. They do nothing until they are waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct ReadBatch {
    settings: Settings,
    reads: Vec<GetRequest>,
}

impl ReadBatch {
    /// The level of each of them.
    pub fn consistency(self, consistency: Consistency) -> Self {
        self.each(|read| read.consistency(consistency))
    }

    /// Makes each of them a part of a session.
    pub fn session(self, session: &Session) -> Self {
        self.each(|read| read.session(session))
    }

    /// How long to try.
    pub fn deadline(self, patience: Duration) -> Self {
        self.each(|read| read.deadline(patience))
    }

    fn each(mut self, change: impl FnMut(GetRequest) -> GetRequest) -> Self {
        self.reads = self.reads.into_iter().map(change).collect();
        self
    }

    /// Starts them and blocks until each is answered or has failed.
    ///
    /// # Errors
    /// [`BatchError`]; nothing was read.
    pub fn wait(self) -> Result<Vec<Result<Read, ReadError>>, BatchError> {
        self.start().wait()
    }

    fn start(self) -> PendingBatch<Read, ReadError> {
        let bytes = self.reads.iter().map(|read| key_bytes(&read.key)).sum();
        match check(&self.settings, self.reads.len(), bytes) {
            Err(error) => PendingBatch::failed(error),
            Ok(()) => PendingBatch::of(self.reads.into_iter().map(GetRequest::prepare)),
        }
    }
}

impl IntoFuture for ReadBatch {
    type Output = Result<Vec<Result<Read, ReadError>>, BatchError>;
    type IntoFuture = PendingBatch<Read, ReadError>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

/// One write of a [`WriteBatch`].
#[must_use = "a request does nothing until it is waited for or awaited"]
pub enum WriteRequest {
    /// A put or a delete.
    Put(PutRequest),
    /// A change of a data type.
    Update(UpdateRequest),
}

impl From<PutRequest> for WriteRequest {
    fn from(put: PutRequest) -> Self {
        Self::Put(put)
    }
}

impl From<UpdateRequest> for WriteRequest {
    fn from(update: UpdateRequest) -> Self {
        Self::Update(update)
    }
}

impl WriteRequest {
    fn prepare(self) -> Result<Prepared<Result<Written, WriteError>>, WriteError> {
        match self {
            Self::Put(put) => put.prepare(),
            Self::Update(update) => update.prepare(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => {
                let value = match &put.payload {
                    Payload::Value(value) => value.len(),
                    Payload::Tombstone => 0,
                };
                let context = put.context.as_ref().map_or(0, |context| context.as_bytes().len());
                key_bytes(&put.key) + value + context
            }
            Self::Update(update) => update.bytes(),
        }
    }
}

/// Writes that have not begun. They do nothing until they are waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct WriteBatch {
    settings: Settings,
    writes: Vec<WriteRequest>,
}

impl WriteBatch {
    /// The level of each of them.
    pub fn consistency(self, consistency: Consistency) -> Self {
        self.each(|put| put.consistency(consistency), |update| update.consistency(consistency))
    }

    /// Makes each put and delete a part of a session.
    pub fn session(self, session: &Session) -> Self {
        self.each(|put| put.session(session), |update| update)
    }

    /// How long to try.
    pub fn deadline(self, patience: Duration) -> Self {
        self.each(|put| put.deadline(patience), |update| update.deadline(patience))
    }

    fn each(
        mut self,
        mut put: impl FnMut(PutRequest) -> PutRequest,
        mut update: impl FnMut(UpdateRequest) -> UpdateRequest,
    ) -> Self {
        let change = |write| match write {
            WriteRequest::Put(request) => WriteRequest::Put(put(request)),
            WriteRequest::Update(request) => WriteRequest::Update(update(request)),
        };
        self.writes = self.writes.into_iter().map(change).collect();
        self
    }

    /// The names they go by, in their order, to [retry](PutRequest::operation) those whose outcome was ambiguous.
    #[must_use]
    pub fn operation_ids(&self) -> Vec<OperationId> {
        let name = |write: &WriteRequest| match write {
            WriteRequest::Put(put) => put.operation_id(),
            WriteRequest::Update(update) => update.operation_id(),
        };
        self.writes.iter().map(name).collect()
    }

    /// Starts them and blocks until each is acknowledged or has failed.
    ///
    /// # Errors
    /// [`BatchError`]; nothing was written.
    pub fn wait(self) -> Result<Vec<Result<Written, WriteError>>, BatchError> {
        self.start().wait()
    }

    fn start(self) -> PendingBatch<Written, WriteError> {
        let bytes = self.writes.iter().map(WriteRequest::bytes).sum();
        match check(&self.settings, self.writes.len(), bytes) {
            Err(error) => PendingBatch::failed(error),
            Ok(()) => PendingBatch::of(self.writes.into_iter().map(WriteRequest::prepare)),
        }
    }
}

impl IntoFuture for WriteBatch {
    type Output = Result<Vec<Result<Written, WriteError>>, BatchError>;
    type IntoFuture = PendingBatch<Written, WriteError>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}

const fn key_bytes(key: &Key) -> usize {
    key.partition.len() + key.sort.len()
}

const fn check(settings: &Settings, count: usize, bytes: usize) -> Result<(), BatchError> {
    let (count_max, bytes_max) = (settings.batch_requests_max, settings.batch_bytes_max);
    if count > count_max {
        return Err(BatchError::TooMany { count, count_max });
    }
    if bytes > bytes_max {
        return Err(BatchError::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// A batch under way. Dropping it does not take it back.
#[must_use = "the outcome of a request says whether it happened"]
pub struct PendingBatch<T, E> {
    parts: Result<Vec<Part<T, E>>, BatchError>,
}

enum Part<T, E> {
    Pending(Pending<Result<T, E>>),
    Done(Result<T, E>),
}

impl<T, E> PendingBatch<T, E> {
    const fn failed(error: BatchError) -> Self {
        Self { parts: Err(error) }
    }

    /// Hands those that passed the checks to their node together.
    fn of(prepared: impl Iterator<Item = Result<Prepared<Result<T, E>>, E>>) -> Self {
        let mut node: Option<Arc<Driver>> = None;
        let (mut requests, mut converts) = (Vec::new(), Vec::new());
        for one in prepared {
            converts.push(match one {
                Err(error) => Err(error),
                Ok(Prepared { driver, request, patience, convert }) => {
                    if !Arc::ptr_eq(node.get_or_insert_with(|| Arc::clone(&driver)), &driver) {
                        return Self::failed(BatchError::OtherNode);
                    }
                    requests.push((request, patience));
                    Ok(convert)
                }
            });
        }
        let mut receivers = node.map_or_else(Vec::new, |node| node.batch(requests)).into_iter();
        let part = |convert| match convert {
            Err(error) => Part::Done(Err(error)),
            Ok(convert) => Part::Pending(Pending::waiting(receivers.next().expect("one for each request"), convert)),
        };
        Self { parts: Ok(converts.into_iter().map(part).collect()) }
    }

    /// Blocks until every outcome is there.
    ///
    /// # Errors
    /// [`BatchError`]; nothing was done.
    ///
    /// # Panics
    /// When it was polled before.
    pub fn wait(self) -> Result<Vec<Result<T, E>>, BatchError> {
        let outcome = |part| match part {
            Part::Pending(pending) => pending.wait(),
            Part::Done(outcome) => outcome,
        };
        Ok(self.parts?.into_iter().map(outcome).collect())
    }
}

impl<T: Unpin, E: Unpin> Future for PendingBatch<T, E> {
    type Output = Result<Vec<Result<T, E>>, BatchError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let parts = match &mut self.parts {
            Err(error) => return Poll::Ready(Err(*error)),
            Ok(parts) => parts,
        };
        let mut waits = false;
        for part in parts.iter_mut() {
            if let Part::Pending(pending) = part {
                match Pin::new(pending).poll(context) {
                    Poll::Ready(outcome) => *part = Part::Done(outcome),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits {
            return Poll::Pending;
        }
        let outcomes = std::mem::take(parts).into_iter().filter_map(|part| match part {
            Part::Done(outcome) => Some(outcome),
            Part::Pending(_) => None,
        });
        Poll::Ready(Ok(outcomes.collect()))
    }
}
