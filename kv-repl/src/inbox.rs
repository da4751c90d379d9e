//! What has arrived at a node and waits for its next turn.
//!
//! Each lane of each peer has a queue of its own, and the clients of the node have one; all are bounded. A turn takes what is
//! urgent, and then so much of each other queue, so that it does not take long. So a flood from one side delays neither failure
//! detection nor anybody else, and takes no more memory than its queue. A frame that finds its queue full is dropped, as by a
//! network; a client is told.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::time::Millis;

use crate::admission::Limits;
use crate::machine::Request;
use crate::stats::TurnedAway;
use crate::status::LoadStatus;
use crate::transport::Lane;

/// What a turn takes of one queue at most: so many bytes, or one that is larger.
const SLICE_BYTES: usize = 4 << 20;
/// And so many of the small ones.
const SLICE_COUNT: usize = 8192;
/// What a frame takes besides its bytes, about.
const FRAME_BYTES: usize = 64;

/// A request of a client, and how to answer it.
#[derive(Debug)]
pub(crate) struct Asked<R> {
    pub(crate) request: Request,
    pub(crate) deadline: Millis,
    pub(crate) reply: R,
}

/// Something that has arrived.
#[derive(Debug)]
pub(crate) enum Arrived<R> {
    Frame {
        from: NodeId,
        lane: Lane,
        frame: Bytes,
    },
    Request(Asked<R>),
    /// Requests that belong together.
    Batch(Vec<Asked<R>>),
}

#[derive(Debug)]
enum Requests<R> {
    One(Asked<R>),
    Batch(Vec<Asked<R>>),
}

/// All queues.
#[derive(Debug)]
pub(crate) struct Inbox<R> {
    limits: Limits,
    /// The more urgent lanes first.
    frames: BTreeMap<(Lane, NodeId), Queue<Bytes>>,
    requests: Queue<Requests<R>>,
    turned_away: TurnedAway,
    dropped: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Queue<T> {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }

    /// Takes one in, and gives it back when there is no room. An empty queue takes any.
    fn push(&mut self, bytes: usize, one: T, count_max: usize, bytes_max: usize) -> Result<(), T> {
        let is_full = self.waiting.len() >= count_max || self.bytes.saturating_add(bytes) > bytes_max;
        if is_full && !self.waiting.is_empty() && !sabotaged!(UnboundedInbox) {
            return Err(one);
        }
        self.bytes += bytes;
        self.waiting.push_back((bytes, one));
        Ok(())
    }

    /// What one turn takes.
    fn slice(&mut self) -> impl Iterator<Item = T> {
        let (mut count, mut bytes) = (0, 0);
        let fits = self.waiting.iter().take_while(|(next, _)| {
            bytes += next;
            count += 1;
            count == 1 || (count <= SLICE_COUNT && bytes <= SLICE_BYTES)
        });
        let taken = fits.count();
        self.bytes -= self.waiting.iter().take(taken).map(|(bytes, _)| bytes).sum::<usize>();
        self.waiting.drain(..taken).map(|(_, one)| one)
    }
}

impl<R> Requests<R> {
    fn each(&self) -> impl Iterator<Item = &Asked<R>> {
        match self {
            Self::One(asked) => std::slice::from_ref(asked).iter(),
            Self::Batch(asked) => asked.iter(),
        }
    }

    fn arrived(self) -> Arrived<R> {
        match self {
            Self::One(asked) => Arrived::Request(asked),
            Self::Batch(asked) => Arrived::Batch(asked),
        }
    }
}

impl<R> Inbox<R> {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self { limits, frames: BTreeMap::new(), requests: Queue::new(), turned_away: TurnedAway::new(), dropped: 0 }
    }

    /// Takes a frame, or drops it when too many bytes of that lane wait already.
    pub(crate) fn frame(&mut self, from: NodeId, lane: Lane, frame: Bytes) {
        let lane = if sabotaged!(OneLane) { Lane::Request } else { lane };
        let queue = self.frames.entry((lane, from)).or_insert(Queue::new());
        let bytes = FRAME_BYTES + frame.len();
        self.dropped += u64::from(queue.push(bytes, frame, usize::MAX, self.limits.peer_bytes_max).is_err());
    }

    /// Takes a request, or gives it back with the time after which to ask again.
    pub(crate) fn request(&mut self, asked: Asked<R>) -> Result<(), (Asked<R>, Millis)> {
        let bytes = asked.request.bytes();
        self.push(bytes, Requests::One(asked)).map_err(|(refused, retry_after)| match refused {
            Requests::One(asked) => (asked, retry_after),
            Requests::Batch(_) => unreachable!("one went in"),
        })
    }

    /// The same for requests that belong together: all of them or none.
    pub(crate) fn batch(&mut self, asked: Vec<Asked<R>>) -> Result<(), (Vec<Asked<R>>, Millis)> {
        let bytes = asked.iter().map(|asked| asked.request.bytes()).sum();
        self.push(bytes, Requests::Batch(asked)).map_err(|(refused, retry_after)| match refused {
            Requests::Batch(asked) => (asked, retry_after),
            Requests::One(_) => unreachable!("several went in"),
        })
    }

    fn push(&mut self, bytes: usize, requests: Requests<R>) -> Result<(), (Requests<R>, Millis)> {
        let Limits { requests_max, request_bytes_max, retry_after, .. } = self.limits;
        let unbounded = sabotaged!(AdmitAll);
        let (count_max, bytes_max) =
            if unbounded { (usize::MAX, usize::MAX) } else { (requests_max, request_bytes_max) };
        let refused = self.requests.push(bytes, requests, count_max, bytes_max);
        refused.map_err(|requests| {
            requests.each().for_each(|asked| self.turned_away.count(&asked.request));
            (requests, retry_after)
        })
    }

    /// What the next turn looks at, in this order.
    pub(crate) fn take(&mut self) -> Vec<Arrived<R>> {
        let mut taken = Vec::new();
        let mut has_requests = true;
        for ((lane, from), queue) in &mut self.frames {
            if *lane == Lane::Bulk && std::mem::take(&mut has_requests) {
                taken.extend(self.requests.slice().map(Requests::arrived));
            }
            taken.extend(queue.slice().map(|frame| Arrived::Frame { from: *from, lane: *lane, frame }));
        }
        if has_requests {
            taken.extend(self.requests.slice().map(Requests::arrived));
        }
        // Strangers come and go.
        self.frames.retain(|_, queue| !queue.waiting.is_empty());
        taken
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.waiting.is_empty() && self.frames.values().all(|queue| queue.waiting.is_empty())
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.requests = Queue::new();
    }

    /// The requests that found no room.
    pub(crate) const fn turned_away(&self) -> &TurnedAway {
        &self.turned_away
    }

    /// Adds what waits here, and what found no room.
    pub(crate) fn report(&self, status: &mut LoadStatus) {
        status.arrived_bytes = self.requests.bytes + self.frames.values().map(|queue| queue.bytes).sum::<usize>();
        status.shed += self.turned_away.total();
        status.dropped_frames = self.dropped;
    }

    /// Other bounds from now on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn bound(&mut self, limits: Limits) {
        self.limits = limits;
    }
}

#[cfg(test)]
mod tests {
    use kv_core::key::{Key, RecordKey, TableId};

    use super::*;
    use crate::quorum::Consistency;
    use crate::request::Get;
    use crate::sabotage::Sabotage;

    fn inbox() -> Inbox<u32> {
        Inbox::new(Limits {
            requests_max: 3,
            request_bytes_max: 1 << 20,
            held_bytes_max: 0,
            peer_bytes_max: 10_000,
            retry_after: Millis(70),
        })
    }

    fn asked(reply: u32) -> Asked<u32> {
        let key = RecordKey::new(TableId(1), &Key::from("k")).expect("a short key");
        let get = Get { key, consistency: Consistency::One, floor: None };
        Asked { request: Request::Get(get), deadline: Millis(9), reply }
    }

    /// Frames by sender and first byte, requests by their number.
    fn take(inbox: &mut Inbox<u32>) -> Vec<(u64, u32)> {
        let name = |arrived| match arrived {
            Arrived::Frame { from, frame, .. } => (from.0, u32::from(frame.first().copied().unwrap_or_default())),
            Arrived::Request(asked) => (0, asked.reply),
            Arrived::Batch(asked) => (u64::MAX, asked.iter().map(|asked| asked.reply).sum()),
        };
        inbox.take().into_iter().map(name).collect()
    }

    fn frame(first: u8, bytes: usize) -> Bytes {
        let mut frame = vec![0; bytes];
        frame[0] = first;
        frame.into()
    }

    #[test]
    fn what_is_urgent_comes_first_and_each_queue_keeps_its_order() {
        let mut inbox = inbox();
        for (from, lane, first) in [
            (1, Lane::Bulk, 1),
            (2, Lane::Request, 2),
            (1, Lane::Request, 3),
            (1, Lane::Request, 4),
            (2, Lane::Control, 5),
        ] {
            inbox.frame(NodeId(from), lane, frame(first, 10));
        }
        assert!(inbox.request(asked(7)).is_ok());
        assert_eq!(take(&mut inbox), [(2, 5), (1, 3), (1, 4), (2, 2), (0, 7), (1, 1)]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_flood_takes_its_own_room_only() {
        let mut inbox = inbox();
        for _ in 0..1000 {
            inbox.frame(NodeId(1), Lane::Request, frame(1, 1000));
        }
        inbox.frame(NodeId(1), Lane::Control, frame(2, 10));
        inbox.frame(NodeId(2), Lane::Request, frame(3, 1000));
        let refused: Vec<bool> = (0..5).map(|number| inbox.request(asked(number)).is_err()).collect();
        assert_eq!(refused, [false, false, false, true, true]);
        let mut status = LoadStatus::default();
        inbox.report(&mut status);
        assert_eq!((status.dropped_frames, status.shed), (991, 2));
        assert!(status.arrived_bytes < 10_000 + 3_000 + 3_000, "{}", status.arrived_bytes);
        let taken = take(&mut inbox);
        assert_eq!((taken.len(), taken[0], taken[10]), (9 + 2 + 3, (1, 2), (2, 3)));
        // What is larger than the queue goes alone.
        inbox.frame(NodeId(1), Lane::Request, frame(1, 20_000));
        inbox.frame(NodeId(1), Lane::Request, frame(1, 1));
        assert_eq!(take(&mut inbox).len(), 1);
    }

    /// One peer fills its lane of requests, and then has something urgent to say.
    fn urgent_in_a_flood() -> Result<(), String> {
        let mut inbox = inbox();
        (0..100).for_each(|_| inbox.frame(NodeId(1), Lane::Request, frame(1, 1000)));
        inbox.frame(NodeId(1), Lane::Control, frame(2, 1000));
        match take(&mut inbox)[..] {
            [(1, 2), ..] => Ok(()),
            ref others => Err(format!("{others:?}")),
        }
    }

    #[test]
    fn what_is_urgent_has_room_of_its_own() {
        assert_eq!(urgent_in_a_flood(), Ok(()));
        assert!(Sabotage::OneLane.during(urgent_in_a_flood).is_err());
    }

    #[test]
    fn a_turn_takes_a_slice_of_each() {
        let mut inbox: Inbox<u32> = inbox();
        inbox.limits.peer_bytes_max = usize::MAX;
        for _ in 0..SLICE_COUNT + 5 {
            inbox.frame(NodeId(1), Lane::Bulk, frame(1, 1));
        }
        for _ in 0..3 {
            inbox.frame(NodeId(2), Lane::Bulk, frame(2, SLICE_BYTES / 2));
        }
        let first = take(&mut inbox);
        assert_eq!(first.iter().filter(|(from, _)| *from == 1).count(), SLICE_COUNT);
        assert_eq!(first.iter().filter(|(from, _)| *from == 2).count(), 1);
        inbox.frame(NodeId(3), Lane::Control, frame(3, 1));
        assert_eq!(take(&mut inbox)[0], (3, 3), "what is urgent does not wait for the rest");
        assert!(!inbox.is_empty());
        assert_eq!(take(&mut inbox), [(2, 2)]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_batch_goes_in_as_a_whole_or_not_at_all() {
        let mut inbox = inbox();
        for reply in [1, 2] {
            inbox.request(asked(reply)).expect("there is room");
        }
        inbox.batch(vec![asked(10), asked(20)]).expect("it counts as one");
        let (refused, retry_after) = inbox.batch(vec![asked(30), asked(40)]).expect_err("three wait");
        assert_eq!((refused.len(), retry_after), (2, Millis(70)));
        assert_eq!(take(&mut inbox), [(0, 1), (0, 2), (u64::MAX, 30)]);
        assert!(inbox.is_empty());
    }
}
