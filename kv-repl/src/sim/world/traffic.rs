//! A look at every frame that is sent.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Record;

use super::World;
use crate::comparison::{Answer, Question};
use crate::message::Message;
use crate::transport::Lane;
use crate::wire;

impl World {
    /// How many messages one node has sent to another one so far because of requests, and in answer to them. Messages that
    /// travel together are one.
    #[must_use]
    pub fn request_messages(&self, from: NodeId, to: NodeId) -> u64 {
        self.requests_sent.get(&(from, to)).copied().unwrap_or(0)
    }

    pub(super) fn look_into(&mut self, from: NodeId, to: NodeId, frame: &Bytes) {
        let frame = wire::decode(frame).expect("a node sends whole frames");
        for message in frame.messages {
            if message.lane() == Lane::Request {
                *self.requests_sent.entry((from, to)).or_default() += 1;
            }
            match message {
                Message::Together(parts) => parts.into_iter().for_each(|part| self.look_at(to, part)),
                message => self.look_at(to, message),
            }
        }
    }

    fn look_at(&mut self, to: NodeId, message: Message) {
        if let Message::Keep { target, key, record, .. } = &message {
            self.fallbacks.asked(to, *target, key.clone(), record.clone());
        }
        self.record_dots(message);
    }

    /// Every version that travels is held against those that travelled before under its dot.
    fn record_dots(&mut self, message: Message) {
        let records = match message {
            Message::Write { key, record, .. } | Message::Keep { key, record, .. } => vec![(key, record)],
            Message::RepairAsk { question: Question::Join(records), .. }
            | Message::RepairAnswer { answer: Ok(Answer::Records(records)), .. } => records,
            _ => return,
        };
        for (key, record) in records {
            let record = Record::decode(&record).expect("a node sends whole records");
            self.ledger.record(&key, &record);
        }
    }
}
