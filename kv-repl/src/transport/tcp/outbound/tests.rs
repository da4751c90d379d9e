use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn info(node: NodeId, address: &str) -> PeerInfo {
    PeerInfo { node, address: address.into() }
}

fn queues(queue_bytes_max: usize) -> Outbound {
    let outbound = Outbound::new(queue_bytes_max);
    outbound.set_peers(&[info(A, "a"), info(B, "b")]);
    outbound
}

fn dirty(outbound: &Outbound) -> Vec<NodeId> {
    let mut dirty = Vec::new();
    outbound.take_dirty(&mut dirty);
    dirty
}

#[test]
fn frames_are_encoded_one_behind_the_other() {
    let outbound = queues(1000);
    outbound.push(A, Lane::Request, b"one").unwrap();
    outbound.push(A, Lane::Bulk, b"two").unwrap();
    let mut buffer = SendBuffer::default();
    outbound.take_pending(A, &mut buffer);
    let expected =
        [&FrameHeader::encode(Lane::Request, b"one")[..], b"one", &FrameHeader::encode(Lane::Bulk, b"two")[..], b"two"];
    assert_eq!((buffer.bytes, buffer.frames), (expected.concat(), 2));
}

#[test]
fn a_peer_is_listed_once_until_the_list_is_taken() {
    let outbound = queues(1000);
    for node in [B, A, B] {
        outbound.push(node, Lane::Request, b"x").unwrap();
    }
    assert_eq!(dirty(&outbound), [B, A]);
    assert_eq!(dirty(&outbound), []);
    outbound.push(B, Lane::Request, b"x").unwrap();
    assert_eq!(dirty(&outbound), [B]);
}

#[test]
fn what_is_being_written_counts_until_it_is_written() {
    let outbound = queues(100);
    outbound.push(A, Lane::Request, &[0; 80]).unwrap();
    let mut buffer = SendBuffer::default();
    outbound.take_pending(A, &mut buffer);
    assert_eq!(outbound.push(A, Lane::Request, &[0; 80]), Err(SendError::Full));
    outbound.push(A, Lane::Request, &[]).unwrap();
    outbound.push(B, Lane::Request, &[0; 80]).expect("each peer has its own queue");
    assert!(outbound.written(A), "one more waits");
    buffer.clear();
    outbound.take_pending(A, &mut buffer);
    assert!(!outbound.written(A));
    outbound.push(A, Lane::Request, &[0; 83]).expect("the nine bytes of the last one are free again");
}

#[test]
fn a_failed_attempt_drops_what_waited_and_refuses_until_there_is_a_connection() {
    let outbound = queues(1000);
    outbound.push(A, Lane::Request, b"x").unwrap();
    assert_eq!(outbound.failed(A), 1);
    assert_eq!(outbound.push(A, Lane::Control, b"x"), Err(SendError::Unreachable));
    outbound.push(B, Lane::Request, b"x").unwrap();
    outbound.opened(A);
    outbound.push(A, Lane::Request, b"x").unwrap();
    outbound.broken(A);
    outbound.push(A, Lane::Request, b"kept for the next attempt").unwrap();
    assert_eq!(outbound.failed(A), 2);
}

#[test]
fn peers_that_stay_keep_their_queues_and_a_new_address_is_a_new_chance() {
    let outbound = queues(1000);
    assert_eq!(outbound.take_changed_peers().map(|peers| peers.len()), Some(2));
    assert_eq!(outbound.take_changed_peers(), None);
    outbound.push(A, Lane::Request, b"x").unwrap();
    outbound.failed(B);
    outbound.set_peers(&[info(A, "a"), info(B, "elsewhere"), info(NodeId(3), "c")]);
    let peers = outbound.take_changed_peers().unwrap();
    assert_eq!(peers[&B], "elsewhere");
    outbound.push(B, Lane::Request, b"x").unwrap();
    assert_eq!(outbound.failed(A), 1, "the frame was kept");
    outbound.set_peers(&[]);
    assert_eq!(outbound.push(A, Lane::Request, b"x"), Err(SendError::UnknownPeer));
}

#[test]
fn a_closed_transport_takes_nothing() {
    let outbound = queues(1000);
    outbound.close();
    assert_eq!(outbound.push(A, Lane::Request, b"x"), Err(SendError::Unreachable));
    outbound.set_peers(&[info(A, "a")]);
    assert_eq!(outbound.push(A, Lane::Request, b"x"), Err(SendError::Unreachable));
}

#[test]
fn a_large_buffer_is_not_kept() {
    let mut buffer = SendBuffer { bytes: Vec::with_capacity(RETAINED_BYTES + 1), frames: 1 };
    buffer.clear();
    assert_eq!(buffer.bytes.capacity(), 0);
    buffer.bytes.reserve_exact(RETAINED_BYTES);
    buffer.clear();
    assert!(buffer.bytes.capacity() > 0, "a small one saves growing it again");
}
