//! Frames that cannot go at once.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::NodeId;

use super::harness::{Member, Stranger, encoded, introduce, keep, member, member_with, wait_until};
use crate::transport::tcp::TcpOptions;
use crate::transport::tcp::frame::FRAME_BYTES_MAX;
use crate::transport::{Lane, PeerInfo, SendError, Transport};

const SLOW: NodeId = NodeId(9);

/// A peer that accepts nothing by itself, and where it is.
fn deaf() -> (TcpListener, PeerInfo) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, PeerInfo { node: SLOW, address })
}

#[test]
fn refusals_have_their_reasons() {
    let a = member(1);
    let send = |frame: Bytes| a.transport.try_send(SLOW, Lane::Request, frame);
    assert_eq!(send(Bytes::new()), Err(SendError::UnknownPeer));
    assert_eq!(send(Bytes::from(vec![0; FRAME_BYTES_MAX + 1])), Err(SendError::TooLarge));
    let (listener, info) = deaf();
    drop(listener);
    a.transport.peers_changed(&[info]);
    wait_until("dialing has failed", || send(Bytes::new()) == Err(SendError::Unreachable));
    assert!(a.transport.stats().dial_failures > 0);
    a.transport.peers_changed(&[PeerInfo { node: SLOW, address: "no port here".into() }]);
    wait_until("looking it up has failed", || send(Bytes::new()) == Err(SendError::Unreachable));
}

#[test]
fn a_queue_is_bounded_by_lane() {
    let options = TcpOptions { queue_bytes_max: 10_000, ..TcpOptions::default() };
    let a = member_with(1, keep, "127.0.0.1:0", options);
    let (_listener, info) = deaf();
    a.transport.peers_changed(&[info]);
    let send = |lane, bytes| a.transport.try_send(SLOW, lane, Bytes::from(vec![0; bytes]));
    // The peer never answers our preamble, so all of this waits. Nine bytes go with each frame.
    send(Lane::Bulk, 4_991).unwrap();
    assert_eq!(send(Lane::Bulk, 0), Err(SendError::Full), "bulk gets half");
    send(Lane::Request, 4_991).unwrap();
    assert_eq!(send(Lane::Request, 0), Err(SendError::Full));
    send(Lane::Control, 100).unwrap();
    send(Lane::Control, 1_000_000).unwrap();
    assert_eq!(send(Lane::Control, 100_000), Err(SendError::Full), "control gets more, not everything");
}

#[test]
fn an_empty_queue_takes_any_frame() {
    let options = TcpOptions { queue_bytes_max: 10, ..TcpOptions::default() };
    let a = member_with(1, keep, "127.0.0.1:0", options);
    let b = member(2);
    introduce(&[&a, &b]);
    a.transport.try_send(b.id, Lane::Bulk, Bytes::from(vec![0; 1 << 20])).unwrap();
    wait_until("it has arrived", || b.node.frames() == 1);
}

/// Sends to a peer that does not read until its queue is full; returns how many mebibytes went in.
fn fill(a: &Member) -> usize {
    let piece = Bytes::from(vec![7; 1 << 20]);
    let mut taken = 0;
    while a.transport.try_send(SLOW, Lane::Request, piece.clone()) != Err(SendError::Full) {
        taken += 1;
        // The kernel's buffers come on top of the limit.
        assert!(taken < 100, "the queue has no bound");
    }
    taken
}

#[test]
fn a_peer_that_does_not_read_fills_its_own_queue_only() {
    let (a, b) = (member(1), member(2));
    let (listener, info) = deaf();
    a.transport.peers_changed(&[info, b.info()]);
    let _slow = Stranger::accept_as(&listener, SLOW.0);
    wait_until("both are connected", || a.transport.stats().connects == 2);
    assert!(fill(&a) >= 63);
    for number in 1..=100 {
        a.send(b.id, "past the slow one");
        wait_until("it has arrived", || b.node.frames() == number);
    }
    let stats = a.transport.stats();
    assert_eq!((stats.stalled, stats.frames_dropped), (0, 0));
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let options = TcpOptions { stall_timeout: Duration::from_millis(200), ..TcpOptions::default() };
    let a = member_with(1, keep, "127.0.0.1:0", options);
    let (listener, info) = deaf();
    a.transport.peers_changed(&[info]);
    let _slow = Stranger::accept_as(&listener, SLOW.0);
    wait_until("it is connected", || a.transport.stats().connects == 1);
    let filled = Instant::now();
    fill(&a);
    wait_until("it is given up", || a.transport.stats().stalled == 1);
    assert!(filled.elapsed() >= Duration::from_millis(200), "not before its time: {:?}", filled.elapsed());
    wait_until("it is dialed again", || listener.accept().is_ok());
    assert!(a.transport.stats().frames_dropped > 0);
}

#[test]
fn a_peer_that_reads_slowly_gets_everything() {
    const FRAMES: usize = 100;
    let options = TcpOptions { stall_timeout: Duration::from_millis(600), ..TcpOptions::default() };
    let a = member_with(1, keep, "127.0.0.1:0", options);
    let (listener, info) = deaf();
    a.transport.peers_changed(&[info]);
    let mut slow = Stranger::accept_as(&listener, SLOW.0);
    let frame: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for _ in 0..FRAMES {
        a.transport.try_send(SLOW, Lane::Request, Bytes::from(frame.clone())).unwrap();
    }
    let expected = encoded(&frame);
    let mut arrived = vec![0; expected.len()];
    for number in 0..FRAMES {
        // Slower altogether than the stall timeout, never silent for as long.
        std::thread::sleep(Duration::from_millis(10));
        slow.stream.read_exact(&mut arrived).unwrap();
        assert!(arrived == expected, "frame {number}");
    }
    let stats = a.transport.stats();
    assert_eq!((stats.frames_out, stats.stalled, stats.frames_dropped), (FRAMES as u64, 0, 0));
}

#[test]
fn what_was_partly_written_is_dropped_and_the_next_connection_begins_with_a_whole_frame() {
    let a = member(1);
    let (listener, info) = deaf();
    a.transport.peers_changed(&[info]);
    let mut first = Stranger::accept_as(&listener, SLOW.0);
    let large = Bytes::from(vec![1; FRAME_BYTES_MAX]);
    a.transport.try_send(SLOW, Lane::Bulk, large).unwrap();
    first.stream.read_exact(&mut [0; 100_000]).unwrap();
    // Queued behind the frame that is being written, so no write has begun with it.
    a.send(SLOW, "whole");
    drop(first);
    let mut second = Stranger::accept_as(&listener, SLOW.0);
    let mut arrived = vec![0; encoded(b"whole").len()];
    second.stream.read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, encoded(b"whole"));
    let stats = a.transport.stats();
    assert_eq!((stats.frames_dropped, stats.reconnects), (1, 1));
}
