//! What a node says to others and hears from them.

use crate::message::{Message, MessageKind};
use crate::transport::Lane;

/// Lanes, in the order of their numbers.
const LANES: [Lane; 3] = [Lane::Control, Lane::Request, Lane::Bulk];

/// Frames and messages in both directions, in this life of a node.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct TrafficStats {
    /// To peers. Frames are those that the transport took, which may still have been lost.
    pub sent: Traffic,
    /// From peers, used or not. What was dropped is in [`Status::dropped`](crate::status::Status::dropped).
    pub received: Traffic,
    /// Frames that the transport did not take.
    pub frames_refused: u64,
    /// Messages that no frame could carry.
    pub oversized: u64,
}

/// Frames and messages in one direction.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Traffic {
    lanes: [LaneTraffic; LANES.len()],
    messages: [u64; MessageKind::ALL.len()],
}

/// Frames of one lane.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct LaneTraffic {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { lanes: Default::default(), messages: [0; MessageKind::ALL.len()] }
    }
}

impl Traffic {
    /// The frames of one lane.
    #[must_use]
    pub const fn lane(&self, lane: Lane) -> LaneTraffic {
        self.lanes[lane as usize]
    }

    /// The frames of each lane.
    pub fn lanes(&self) -> impl Iterator<Item = (Lane, LaneTraffic)> + '_ {
        LANES.into_iter().map(|lane| (lane, self.lane(lane)))
    }

    /// How many messages of one kind there were. Those that travelled together count by themselves, and what held them counts as
    /// [`MessageKind::Together`] besides.
    #[must_use]
    pub const fn messages(&self, kind: MessageKind) -> u64 {
        self.messages[kind as usize]
    }

    pub(crate) const fn frame(&mut self, lane: Lane, bytes: usize) {
        let lane = &mut self.lanes[lane as usize];
        lane.frames += 1;
        lane.bytes += bytes as u64;
    }

    pub(crate) fn message(&mut self, message: &Message) {
        self.messages[message.kind() as usize] += 1;
        if let Message::Together(parts) = message {
            parts.iter().for_each(|part| self.message(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_message_are_counted_with_it() {
        let mut traffic = Traffic::default();
        let reply = |tag| Message::WriteReply { tag, refused: None };
        traffic.message(&Message::Together(vec![reply(1), reply(2)]));
        traffic.message(&Message::Nack { sequence: 1 });
        let counts = [MessageKind::WriteReply, MessageKind::Together, MessageKind::Nack, MessageKind::Write];
        assert_eq!(counts.map(|kind| traffic.messages(kind)), [2, 1, 1, 0]);
        traffic.frame(Lane::Bulk, 10);
        traffic.frame(Lane::Bulk, 5);
        let lanes: Vec<_> = traffic.lanes().collect();
        assert_eq!(lanes[2], (Lane::Bulk, LaneTraffic { frames: 2, bytes: 15 }));
        assert_eq!(traffic.lane(Lane::Control), LaneTraffic::default());
    }

    #[test]
    fn kinds_and_lanes_stand_where_their_numbers_say() {
        assert!(MessageKind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
        assert!(LANES.iter().enumerate().all(|(place, lane)| *lane as usize == place));
    }
}
