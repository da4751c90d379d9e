//! A request that was handed to the node and has no outcome yet.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::driver::Driver;
use crate::machine::{Outcome, Request};

/// A request under way. Dropping it does not take the request back.
#[must_use = "the outcome of a request says whether it happened"]
pub struct Pending<T> {
    state: State<T>,
}

enum State<T> {
    Ready(Option<T>),
    Waiting {
        receiver: oneshot::AsyncReceiver<Outcome>,
        convert: Convert<T>,
    },
    /// Kept for `wait`, which blocks without an executor.
    Blocking {
        receiver: oneshot::Receiver<Outcome>,
        convert: Convert<T>,
    },
    Done,
}

/// Makes what the caller waits for out of an outcome, or of none when the node has stopped.
pub(super) enum Convert<T> {
    Plain(fn(Option<Outcome>) -> T),
    /// Tells a session, too.
    Boxed(Box<dyn FnOnce(Option<Outcome>) -> T + Send>),
}

impl<T> Convert<T> {
    fn call(self, outcome: Option<Outcome>) -> T {
        match self {
            Self::Plain(convert) => convert(outcome),
            Self::Boxed(convert) => convert(outcome),
        }
    }
}

/// A request that has passed the checks of the client and was not handed to its node.
pub(super) struct Prepared<T> {
    pub(super) driver: Arc<Driver>,
    pub(super) request: Request,
    pub(super) patience: Duration,
    pub(super) convert: Convert<T>,
}

impl<T, E> Pending<Result<T, E>> {
    /// Hands it to its node, if it has passed.
    pub(super) fn of(prepared: Result<Prepared<Result<T, E>>, E>) -> Self {
        match prepared {
            Err(error) => Self::ready(Err(error)),
            Ok(Prepared { driver, request, patience, convert }) => {
                Self::waiting(driver.request(request, patience), convert)
            }
        }
    }
}

impl<T> Pending<T> {
    pub(super) const fn ready(value: T) -> Self {
        Self { state: State::Ready(Some(value)) }
    }

    pub(super) const fn waiting(receiver: oneshot::Receiver<Outcome>, convert: Convert<T>) -> Self {
        Self { state: State::Blocking { receiver, convert } }
    }

    /// Blocks until the outcome is there.
    ///
    /// # Panics
    /// When it was polled before.
    pub fn wait(self) -> T {
        match self.state {
            State::Ready(value) => value.expect("waited for twice"),
            State::Blocking { receiver, convert } => convert.call(receiver.recv().ok()),
            State::Waiting { .. } | State::Done => panic!("a request that was polled is awaited, not waited for"),
        }
    }
}

impl<T: Unpin> Future for Pending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Ready(value) => Poll::Ready(value.expect("polled after it was ready")),
            State::Blocking { receiver, convert } => {
                self.state = State::Waiting { receiver: receiver.into_future(), convert };
                self.poll(context)
            }
            State::Waiting { mut receiver, convert } => match Pin::new(&mut receiver).poll(context) {
                Poll::Ready(outcome) => Poll::Ready(convert.call(outcome.ok())),
                Poll::Pending => {
                    self.state = State::Waiting { receiver, convert };
                    Poll::Pending
                }
            },
            State::Done => panic!("polled after it was ready"),
        }
    }
}
