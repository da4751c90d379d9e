//! Requests and messages that come together, and questions that more than one machine has to answer.

use kv_core::NodeId;
use kv_core::time::{Millis, Now};

use super::NodeCore;
use crate::looking::look;
use crate::machine::{Origin, Release, Request};
use crate::message::Message;
use crate::turn::{Output, Turn};

impl NodeCore {
    /// Takes requests of clients that came together. Each is what it would be by itself; only their messages travel together.
    pub(crate) fn batch(&mut self, now: Now, turn: &mut Turn<'_>, requests: Vec<(u64, Millis, Request)>) {
        let before = turn.outputs.len();
        for (client, deadline, request) in requests {
            match turn.outputs[before..].iter().find_map(Output::failure).filter(|_| sabotaged!(FailTheWholeBatch)) {
                Some(outcome) => self.settle(turn, Origin::Client(client), outcome),
                None => self.request(now, turn, client, deadline, request),
            }
        }
        turn.bundle(before);
    }

    /// Messages that came as one. Whatever is said because of them is said together as well.
    pub(super) fn together(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        let Message::Together(parts) = message else { return };
        let before = turn.outputs.len();
        for part in parts {
            self.message(now, turn, from, part);
        }
        turn.bundle(before);
    }

    /// Somebody asks what this node holds of a key.
    pub(super) fn look(&mut self, now: Now, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        let Message::Describe { tag, epoch, key } = message else { return };
        let environment = self.shared.environment(now, turn);
        let outcome = look(&environment, epoch, &key, &self.hints, &self.repairs).map(Box::new);
        let message = Message::Described { tag, outcome };
        turn.outputs.push(Output::Send { to: from, message, release: Release::Settled });
    }
}
