use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::transport::Turn;

/// Keeps what is delivered.
#[derive(Default)]
struct Inbox {
    frames: Mutex<Vec<(NodeId, Lane, Bytes)>>,
}

impl Inbox {
    fn taken(&self) -> Vec<(NodeId, Lane, Bytes)> {
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

impl Inbound for Inbox {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        self.frames.lock().unwrap().push((from, lane, frame));
    }

    fn turn(&self) -> Turn {
        panic!("the node runs its own turns")
    }

    fn on_wake(&self, _wake: Arc<dyn Fn() + Send + Sync>) {
        panic!("the node runs its own turns")
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn attach(network: &MemoryNetwork, node: NodeId) -> (MemoryTransport, Arc<Inbox>) {
    let transport = network.transport(node);
    let inbox = Arc::new(Inbox::default());
    assert_eq!(transport.attach(inbox.clone()), Drive::Node);
    (transport, inbox)
}

fn frame(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn frames_arrive_in_order_with_sender_and_lane() {
    let network = MemoryNetwork::new();
    let (a, _) = attach(&network, A);
    let (b, inbox) = attach(&network, B);
    a.try_send(B, Lane::Request, frame("1")).unwrap();
    a.try_send(B, Lane::Bulk, frame("2")).unwrap();
    b.try_send(B, Lane::Control, frame("to myself")).unwrap();
    let expected =
        [(A, Lane::Request, frame("1")), (A, Lane::Bulk, frame("2")), (B, Lane::Control, frame("to myself"))];
    assert_eq!(inbox.taken(), expected);
}

#[test]
fn only_attached_nodes_are_reached() {
    let network = MemoryNetwork::new();
    let (a, inbox_a) = attach(&network, A);
    assert_eq!(a.try_send(B, Lane::Request, frame("x")), Err(SendError::Unreachable));
    let b = network.transport(B);
    assert_eq!(b.try_send(A, Lane::Request, frame("x")), Err(SendError::Unreachable), "not attached itself");
    let inbox = Arc::new(Inbox::default());
    b.attach(inbox.clone());
    a.try_send(B, Lane::Request, frame("x")).unwrap();
    b.detach();
    assert_eq!(Arc::strong_count(&inbox), 1, "detaching lets go of the node");
    assert_eq!(a.try_send(B, Lane::Request, frame("x")), Err(SendError::Unreachable));
    assert_eq!(b.try_send(A, Lane::Request, frame("x")), Err(SendError::Unreachable));
    network.detach(A);
    assert_eq!(a.try_send(A, Lane::Request, frame("x")), Err(SendError::Unreachable));
    assert_eq!((inbox.taken().len(), inbox_a.taken().len()), (1, 0));
}

#[test]
fn a_cut_link_loses_frames_until_it_is_healed() {
    let network = MemoryNetwork::new();
    let (a, inbox_a) = attach(&network, A);
    let (b, inbox_b) = attach(&network, B);
    network.disconnect(A, B);
    a.try_send(B, Lane::Request, frame("lost")).unwrap();
    b.try_send(A, Lane::Request, frame("lost")).unwrap();
    network.heal();
    a.try_send(B, Lane::Request, frame("back")).unwrap();
    network.disconnect_one_way(A, B);
    a.try_send(B, Lane::Request, frame("lost")).unwrap();
    b.try_send(A, Lane::Request, frame("other way")).unwrap();
    assert_eq!(inbox_b.taken(), [(A, Lane::Request, frame("back"))]);
    assert_eq!(inbox_a.taken(), [(B, Lane::Request, frame("other way"))]);
}

#[test]
fn a_late_detach_leaves_the_restarted_node_alone() {
    let network = MemoryNetwork::new();
    let (a, _) = attach(&network, A);
    let (before, inbox_before) = attach(&network, B);
    let (_after, inbox_after) = attach(&network, B);
    assert_eq!(before.try_send(A, Lane::Request, frame("x")), Err(SendError::Unreachable), "it was replaced");
    before.detach();
    a.try_send(B, Lane::Request, frame("x")).unwrap();
    assert_eq!((inbox_before.taken().len(), inbox_after.taken().len()), (0, 1));
}

#[test]
fn a_frame_over_the_limit_is_refused() {
    let network = MemoryNetwork::new();
    let (a, inbox) = attach(&network, A);
    let largest = a.max_frame_bytes(A);
    assert_eq!(a.try_send(A, Lane::Bulk, Bytes::from(vec![0; largest + 1])), Err(SendError::TooLarge));
    a.try_send(A, Lane::Bulk, Bytes::from(vec![0; largest])).unwrap();
    assert_eq!(inbox.taken().len(), 1);
}

/// Takes its time with a frame.
struct Slow {
    entered: Mutex<std::sync::mpsc::Sender<()>>,
    delivered: AtomicUsize,
}

impl Inbound for Slow {
    #[expect(clippy::disallowed_methods, reason = "it is slow")]
    fn deliver(&self, _from: NodeId, _lane: Lane, _frame: Bytes) {
        self.entered.lock().unwrap().send(()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        self.delivered.fetch_add(1, Ordering::SeqCst);
    }

    fn turn(&self) -> Turn {
        panic!("the node runs its own turns")
    }

    fn on_wake(&self, _wake: Arc<dyn Fn() + Send + Sync>) {
        panic!("the node runs its own turns")
    }
}

#[test]
fn whoever_detaches_waits_for_the_frame_that_is_being_delivered() {
    let network = MemoryNetwork::new();
    let (a, _) = attach(&network, A);
    let (entered, enters) = std::sync::mpsc::channel();
    let slow = Arc::new(Slow { entered: Mutex::new(entered), delivered: AtomicUsize::new(0) });
    let b = network.transport(B);
    assert_eq!(b.attach(slow.clone()), Drive::Node);
    std::thread::scope(|scope| {
        scope.spawn(|| a.try_send(B, Lane::Request, frame("the last one")).unwrap());
        enters.recv().unwrap();
        b.detach();
        assert_eq!(slow.delivered.load(Ordering::SeqCst), 1);
    });
    assert_eq!(a.try_send(B, Lane::Request, frame("too late")), Err(SendError::Unreachable));
    assert_eq!(Arc::strong_count(&slow), 1);
}
