//! Where the data of a key is, as a request.

use std::future::IntoFuture;
use std::time::Duration;

use kv_core::key::{Key, RecordKey};

use super::Table;
use super::pending::{Convert, Pending, Prepared};
use crate::description::{DescribeError, Description};
use crate::machine::{Outcome, Request};

/// How long to wait for replicas that do not answer.
const PATIENCE: Duration = Duration::from_secs(1);

impl Table {
    /// Where the data of a key is: which nodes hold it, what each of them has of it, whether it can be reached, what is kept for it
    /// because it has missed something, and when it was last compared with the others. For operators and for tests; it moves no
    /// values, repairs nothing, and does not fail because a replica is down.
    pub fn describe(&self, key: impl Into<Key>) -> DescribeRequest {
        DescribeRequest { table: self.clone(), key: key.into(), patience: PATIENCE }
    }
}

/// A question that has not been asked. It does nothing until it is waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct DescribeRequest {
    table: Table,
    key: Key,
    patience: Duration,
}

impl DescribeRequest {
    /// How long to wait for replicas that seem to be there and do not answer; a second unless said otherwise. Nobody waits for those
    /// that cannot be reached.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks and blocks until everybody who can be reached has answered, or the time is up.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub fn wait(self) -> Result<Description, DescribeError> {
        self.start().wait()
    }

    fn start(self) -> Pending<Result<Description, DescribeError>> {
        Pending::of(self.prepare())
    }

    fn prepare(self) -> Result<Prepared<Result<Description, DescribeError>>, DescribeError> {
        let Self { table, key, patience } = self;
        let request = Request::Describe(RecordKey::new(table.schema.id, &key)?);
        let described = |outcome| match outcome {
            Some(Outcome::Describe(outcome)) => outcome,
            _ => Err(DescribeError::Stopped),
        };
        Ok(Prepared { driver: table.driver, request, patience, convert: Convert::Plain(described) })
    }
}

impl IntoFuture for DescribeRequest {
    type Output = Result<Description, DescribeError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}
