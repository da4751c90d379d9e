//! Bytes that do not belong.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::NodeId;

use super::harness::{Member, Stranger, encoded, introduce, keep, member, member_with, wait_until};
use crate::transport::tcp::TcpOptions;
use crate::transport::tcp::frame::{FRAME_BYTES_MAX, Preamble};
use crate::transport::{Lane, PeerInfo, SendError, Transport};

fn impatient(greeting_timeout: Duration) -> Member {
    member_with(1, keep, "127.0.0.1:0", TcpOptions { greeting_timeout, ..TcpOptions::default() })
}

/// Says `bytes` and must be closed for them, before the greeting would time out.
fn is_refused(bytes: &[u8]) {
    let a = member(1);
    let mut stranger = Stranger::dial(&a);
    stranger.write(bytes);
    let said = Instant::now();
    assert!(stranger.is_closed());
    assert!(said.elapsed() < Duration::from_secs(4), "closed for what was said, not for silence");
    let stats = a.transport.stats();
    assert_eq!((stats.refused_preambles, stats.bad_frames, stats.frames_in), (1, 0, 0));
}

#[test]
fn garbage_is_refused() {
    is_refused(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    is_refused(&[0; 4096]);
    is_refused(b"k?");
}

#[test]
fn an_altered_preamble_is_refused() {
    let mut bytes = Preamble::of(NodeId(2)).encode();
    bytes[20] ^= 1;
    is_refused(&bytes);
}

#[test]
fn an_endless_preamble_is_refused() {
    let mut bytes = Preamble::of(NodeId(2)).encode();
    bytes[28..30].copy_from_slice(&u16::MAX.to_le_bytes());
    is_refused(&bytes);
}

#[test]
fn another_version_is_refused_and_told_ours() {
    let a = member(1);
    let mut stranger = Stranger::dial(&a);
    stranger.write(&Preamble { protocol_min: 2, protocol_max: 7, ..Preamble::of(NodeId(2)) }.encode());
    assert_eq!(stranger.read_preamble(), Preamble::of(a.id));
    assert!(stranger.is_closed());
    assert_eq!(a.transport.stats().refused_preambles, 1);
}

#[test]
fn a_truncated_preamble_is_counted() {
    let a = member(1);
    let mut stranger = Stranger::dial(&a);
    stranger.write(&Preamble::of(NodeId(2)).encode()[..20]);
    drop(stranger);
    wait_until("it is counted", || a.transport.stats().refused_preambles == 1);
}

#[test]
fn silence_and_slowness_are_closed_in_time() {
    let a = impatient(Duration::from_millis(200));
    let started = Instant::now();
    let mut silent = Stranger::dial(&a);
    let mut slow = Stranger::dial(&a);
    let dripping = std::thread::spawn(move || {
        for byte in Preamble::of(NodeId(2)).encode() {
            slow.write(&[byte]);
            std::thread::sleep(Duration::from_millis(30));
        }
        slow.is_closed()
    });
    assert!(silent.is_closed());
    assert!(started.elapsed() >= Duration::from_millis(200), "not before its time: {:?}", started.elapsed());
    assert!(dripping.join().unwrap());
    assert_eq!(a.transport.stats().refused_preambles, 2);
    is_told_of(&a, 2);
    let mut greeted = Stranger::dial_as(&a, 2);
    std::thread::sleep(Duration::from_millis(400));
    greeted.write_frame(b"still here");
    wait_until("it has arrived", || a.node.frames() == 1);
}

/// `member` has the peer `node` from now on, and nowhere to find it.
fn is_told_of(member: &Member, node: u64) {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    member.transport.peers_changed(&[PeerInfo { node: NodeId(node), address: nowhere.to_string() }]);
}

#[test]
fn whom_nobody_was_told_of_may_introduce_itself_and_no_more() {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    stranger.write_frame(&[7; 4096]);
    wait_until("an introduction has arrived", || a.node.frames() == 1);
    assert_eq!(a.transport.stats().strangers_closed, 0);
    stranger.write_frame(&[7; 4097]);
    assert!(stranger.is_closed());
    let stats = a.transport.stats();
    assert_eq!((stats.strangers_closed, stats.bad_frames, stats.refused_preambles, stats.frames_in), (1, 0, 0, 1));
}

#[test]
fn a_large_frame_of_a_stranger_is_closed_for_its_header() {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    let said = Instant::now();
    stranger.write(&encoded(&vec![0; 1 << 20])[..9]);
    assert!(stranger.is_closed(), "before a byte of it has come");
    assert!(said.elapsed() < Duration::from_secs(4), "closed for what was said, not for silence");
    assert_eq!(a.transport.stats().strangers_closed, 1);
}

#[test]
fn whom_a_node_is_told_of_meanwhile_is_no_stranger() {
    let a = impatient(Duration::from_millis(300));
    let mut stranger = Stranger::dial_as(&a, 2);
    stranger.write_frame(b"I am 2");
    wait_until("it has arrived", || a.node.frames() == 1);
    is_told_of(&a, 2);
    stranger.write_frame(&vec![7; 1 << 20]);
    wait_until("a large frame has arrived", || a.node.frames() == 2);
    std::thread::sleep(Duration::from_millis(500));
    stranger.write_frame(b"still here");
    wait_until("it lasts", || a.node.frames() == 3);
    assert_eq!(a.transport.stats().strangers_closed, 0);
}

#[test]
fn whom_nobody_is_told_of_in_time_is_closed() {
    let a = impatient(Duration::from_millis(200));
    let started = Instant::now();
    let mut stranger = Stranger::dial_as(&a, 2);
    stranger.write_frame(b"let me in");
    assert!(stranger.is_closed());
    assert!(started.elapsed() >= Duration::from_millis(200), "not before its time: {:?}", started.elapsed());
    assert_eq!((a.transport.stats().strangers_closed, a.node.frames()), (1, 1));
}

#[test]
fn many_small_frames_of_a_stranger_are_too_much_as_well() {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    for _ in 0..200 {
        stranger.write_frame(&[7; 1000]);
    }
    assert!(stranger.is_closed());
    assert_eq!(a.transport.stats().strangers_closed, 1);
    assert!(a.transport.stats().bytes_in < 80 << 10, "{:?}", a.transport.stats());
}

#[test]
fn a_crowd_of_silent_strangers_does_not_lock_out_peers() {
    let a = member(1);
    let mut crowd: Vec<_> = (0..100).map(|_| Stranger::dial(&a)).collect();
    wait_until("the oldest have made room", || a.transport.stats().refused_preambles == 100 - 32);
    assert_eq!(a.transport.stats().accepted, 100);
    assert!(crowd[0].is_closed());
    Stranger::dial_as(&a, 2).write_frame(b"a peer");
    wait_until("it has arrived", || a.node.frames() == 1);
}

#[test]
fn a_crowd_that_claims_names_does_not_lock_out_peers() {
    let a = member(1);
    is_told_of(&a, 2);
    let mut peer = Stranger::dial_as(&a, 2);
    let mut crowd: Vec<_> = (100..200).map(|node| Stranger::dial_as(&a, node)).collect();
    wait_until("the oldest have made room", || a.transport.stats().strangers_closed == 100 - 32);
    assert!(crowd[0].is_closed());
    crowd[99].write_frame(b"a stranger");
    peer.write_frame(b"a peer");
    Stranger::dial_as(&a, 2).write_frame(b"a peer that comes later");
    wait_until("all have arrived", || a.node.frames() == 3);
    assert_eq!(a.transport.stats().refused_preambles, 0);
}

#[test]
fn what_one_node_left_behind_is_closed() {
    let a = member(1);
    let mut connections: Vec<_> = (0..5).map(|_| Stranger::dial_as(&a, 2)).collect();
    assert!(connections[0].is_closed(), "the oldest goes");
    connections[4].write_frame(b"new");
    connections[1].write_frame(b"old");
    wait_until("both have arrived", || a.node.frames() == 2);
}

/// Says `bytes` after a preamble and a good frame, and must be closed for them.
fn breaks_a_greeted_connection(bytes: &[u8]) {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    stranger.write_frame(b"good");
    stranger.write(bytes);
    stranger.write_frame(b"not to be believed");
    assert!(stranger.is_closed());
    wait_until("the good frame has arrived", || a.node.frames() == 1);
    let stats = a.transport.stats();
    assert_eq!((stats.bad_frames, stats.refused_preambles, stats.frames_in), (1, 0, 1));
}

#[test]
fn a_wrong_checksum_closes() {
    let mut frame = encoded(b"altered");
    *frame.last_mut().unwrap() ^= 0x20;
    breaks_a_greeted_connection(&frame);
}

#[test]
fn an_unknown_lane_closes() {
    let mut frame = encoded(b"");
    frame[4] = 9;
    breaks_a_greeted_connection(&frame);
}

#[test]
fn a_length_over_the_limit_closes() {
    let mut frame = encoded(b"");
    frame[..4].copy_from_slice(&u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes());
    breaks_a_greeted_connection(&frame);
}

#[test]
fn half_a_frame_is_no_frame() {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    stranger.write_frame(b"whole");
    let frame = encoded(b"half");
    stranger.write(&frame[..frame.len() - 1]);
    drop(stranger);
    Stranger::dial_as(&a, 2).write_frame(b"next");
    wait_until("the next connection's frame has arrived", || a.node.frames() == 2);
    assert_eq!(a.node.texts(), ["whole", "next"]);
    assert_eq!(a.transport.stats().bad_frames, 0, "a connection may end anywhere");
}

#[test]
fn an_end_that_comes_together_with_the_last_frame_is_seen() {
    let a = member(1);
    let mut stranger = Stranger::dial_as(&a, 2);
    // While the loop is busy both pile up, and are one event.
    a.node.in_a_turn(|_| std::thread::sleep(Duration::from_millis(100)));
    stranger.write_frame(b"last");
    stranger.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(stranger.is_closed());
    wait_until("the turn has seen it", || a.node.texts() == ["last"]);
}

#[test]
fn the_wrong_node_at_an_address_gets_no_frames() {
    let (a, b) = (member(1), member(2));
    let info = PeerInfo { node: NodeId(7), address: b.transport.local_addr().to_string() };
    a.transport.peers_changed(&[info]);
    a.send(NodeId(7), "for 7 only");
    wait_until("dialing has failed", || a.transport.stats().dial_failures > 0);
    let late = a.transport.try_send(NodeId(7), Lane::Request, Bytes::new());
    assert_eq!(late, Err(SendError::Unreachable));
    let stats = a.transport.stats();
    assert!(stats.refused_preambles > 0);
    assert_eq!((stats.connects, stats.frames_dropped, b.node.frames()), (0, 1, 0));
}

#[test]
fn an_acceptor_that_talks_is_hung_up_on() {
    let a = member(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let info = PeerInfo { node: NodeId(9), address: listener.local_addr().unwrap().to_string() };
    a.transport.peers_changed(&[info]);
    let mut talker = Stranger::accept_as(&listener, 9);
    wait_until("it is connected", || a.transport.stats().connects == 1);
    talker.write(b"?");
    assert!(talker.is_closed());
    wait_until("it is counted", || a.transport.stats().bad_frames == 1);
}

#[test]
fn an_acceptor_that_is_silent_is_given_up() {
    let a = impatient(Duration::from_millis(100));
    let b = member(2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let info = PeerInfo { node: NodeId(9), address: listener.local_addr().unwrap().to_string() };
    a.transport.peers_changed(&[info, b.info()]);
    wait_until("dialing has failed", || {
        a.transport.try_send(NodeId(9), Lane::Request, Bytes::new()) == Err(SendError::Unreachable)
    });
    a.send(b.id, "others are not affected");
    wait_until("it has arrived", || b.node.frames() == 1);
}

#[test]
fn random_bytes_do_no_harm() {
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    let mut state = 1_u64;
    for round in 0..60 {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push(state.to_le_bytes()[7]);
        }
        let mut stranger = if round % 2 == 0 { Stranger::dial(&a) } else { Stranger::dial_as(&a, 3) };
        stranger.write(&bytes);
    }
    wait_until("all are gone", || {
        let stats = a.transport.stats();
        stats.refused_preambles >= 30 && stats.accepted >= 61
    });
    b.send(a.id, "still here");
    wait_until("it has arrived", || a.node.texts().iter().any(|text| text == "still here"));
}
