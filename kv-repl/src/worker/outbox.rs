//! What a turn says to peers: one frame for each of them and lane, or as many as it takes.

use std::collections::BTreeMap;

use kv_core::NodeId;

use super::Outside;
use crate::message::Message;
use crate::shared::Shared;
use crate::stats::TrafficStats;
use crate::transport::Lane;
use crate::wire::FrameWriter;

/// So many peers are spoken to in one turn, as a rule.
const SPARE_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Outbox {
    messages: BTreeMap<(NodeId, Lane), Vec<Message>>,
    /// Empty ones, for the next turn.
    spare: Vec<Vec<Message>>,
}

impl Outbox {
    pub(super) fn add(&mut self, to: NodeId, message: Message) {
        let spare = &mut self.spare;
        let messages = self.messages.entry((to, message.lane()));
        messages.or_insert_with(|| spare.pop().unwrap_or_default()).push(message);
    }

    /// Hands everything to the transport.
    pub(super) fn flush(&mut self, shared: &mut Shared, outside: &mut dyn Outside) {
        while let Some(((to, lane), mut messages)) = self.messages.pop_first() {
            let bytes_max = outside.frame_bytes_max(to);
            let header = shared.header_to(to);
            let traffic = &mut shared.traffic;
            let mut taken = true;
            let mut frame = FrameWriter::with_room(&header, messages.len());
            // What goes next lies at the end.
            messages.reverse();
            while let Some(message) = messages.pop() {
                if put(&mut frame, &message, bytes_max, traffic) {
                    continue;
                }
                let full = std::mem::replace(&mut frame, FrameWriter::new(&header));
                if !full.is_empty() {
                    taken &= send(to, lane, full, traffic, outside);
                }
                if put(&mut frame, &message, bytes_max, traffic) {
                    continue;
                }
                match message.halves() {
                    Some((first, second)) => messages.extend([second, first]),
                    None => traffic.oversized += 1,
                }
            }
            if !frame.is_empty() {
                taken &= send(to, lane, frame, traffic, outside);
            }
            shared.sent(to, taken);
            if self.spare.len() < SPARE_MAX {
                self.spare.push(messages);
            }
        }
    }
}

fn put(frame: &mut FrameWriter, message: &Message, bytes_max: usize, traffic: &mut TrafficStats) -> bool {
    let fits = frame.push(message, bytes_max);
    if fits {
        traffic.sent.message(message);
    }
    fits
}

fn send(to: NodeId, lane: Lane, frame: FrameWriter, traffic: &mut TrafficStats, outside: &mut dyn Outside) -> bool {
    let frame = frame.finish();
    let bytes = frame.len();
    let taken = outside.send(to, lane, frame);
    if taken {
        traffic.sent.frame(lane, bytes);
    } else {
        traffic.frames_refused += 1;
    }
    taken
}
