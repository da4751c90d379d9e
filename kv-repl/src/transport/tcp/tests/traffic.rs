//! Frames between nodes that behave.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::NodeId;

use super::harness::{Member, Stranger, echo, encoded, introduce, member, member_with, wait_until};
use crate::transport::tcp::TcpOptions;
use crate::transport::tcp::frame::FRAME_BYTES_MAX;
use crate::transport::{Lane, PeerInfo, SendError, Transport, Turn};

fn numbered(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

#[test]
fn three_nodes_answer_each_other() {
    let (a, b, c) = (member(1), echoing(2), echoing(3));
    introduce(&[&a, &b, &c]);
    for (to, lane) in [(b.id, Lane::Control), (c.id, Lane::Bulk), (b.id, Lane::Request)] {
        a.transport.try_send(to, lane, Bytes::from_static(b"ping")).unwrap();
    }
    a.transport.try_send(c.id, Lane::Request, Bytes::new()).unwrap();
    wait_until("all have answered", || a.node.frames() == 4);
    let mut answers = a.node.take_handled();
    answers.sort();
    let ping = Bytes::from_static(b"ping");
    let expected = [
        (b.id, Lane::Control, ping.clone()),
        (b.id, Lane::Request, ping.clone()),
        (c.id, Lane::Request, Bytes::new()),
        (c.id, Lane::Bulk, ping),
    ];
    assert_eq!(answers, expected);
}

fn echoing(id: u64) -> Member {
    member_with(id, echo, "127.0.0.1:0", TcpOptions::default())
}

#[test]
fn ten_thousand_frames_of_one_turn_arrive_in_order_and_in_few_writes() {
    const FRAMES: u32 = 10_000;
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    let to = b.id;
    a.node.in_a_turn(move |transport| {
        for number in 0..FRAMES {
            transport.try_send(to, Lane::Request, numbered(number)).unwrap();
        }
    });
    wait_until("all have arrived", || b.node.frames() == FRAMES as usize);
    let arrived = b.node.take_handled();
    assert!((0..FRAMES).zip(&arrived).all(|(number, delivered)| *delivered == (a.id, Lane::Request, numbered(number))));
    assert_eq!(b.transport.stats().frames_in, u64::from(FRAMES));
    wait_until("the write is counted", || a.transport.stats().frames_out == u64::from(FRAMES));
    let sent = a.transport.stats();
    assert_eq!(sent.writes, 1, "a turn's frames to one peer are one write");
    assert_eq!(sent.bytes_out, u64::from(FRAMES) * (9 + 4));
    assert_eq!(sent.frames_dropped, 0);
}

#[test]
fn ten_thousand_frames_from_another_thread_arrive_in_order() {
    const FRAMES: u32 = 10_000;
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    for number in 0..FRAMES {
        a.transport.try_send(b.id, Lane::Request, numbered(number)).unwrap();
    }
    wait_until("all have arrived", || b.node.frames() == FRAMES as usize);
    let arrived = b.node.take_handled();
    assert!((0..FRAMES).zip(&arrived).all(|(number, delivered)| delivered.2 == numbered(number)));
    let stats = a.transport.stats();
    assert!(stats.writes < u64::from(FRAMES) / 2, "frames that were queued together go together: {stats:?}");
}

#[test]
fn each_peer_gets_one_write_per_turn() {
    const TURNS: u64 = 200;
    let (a, b, c) = (member(1), member(2), member(3));
    introduce(&[&a, &b, &c]);
    for turn in 1..=TURNS {
        let peers = [b.id, c.id];
        a.node.in_a_turn(move |transport| {
            for number in 0..20 {
                peers.iter().for_each(|to| transport.try_send(*to, Lane::Request, numbered(number)).unwrap());
            }
        });
        let frames = usize::try_from(turn).unwrap() * 20;
        wait_until("the turn's frames have arrived", || b.node.frames() == frames && c.node.frames() == frames);
    }
    wait_until("the last write is counted", || a.transport.stats().frames_out == 2 * 20 * TURNS);
    assert_eq!(a.transport.stats().writes, 2 * TURNS);
}

#[test]
fn the_largest_frame_passes_between_small_ones() {
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    let largest = Bytes::from((0..=255).cycle().take(FRAME_BYTES_MAX).collect::<Vec<u8>>());
    assert_eq!(a.transport.max_frame_bytes(b.id), largest.len());
    a.send(b.id, "before");
    a.transport.try_send(b.id, Lane::Bulk, largest.clone()).unwrap();
    a.send(b.id, "after");
    wait_until("all have arrived", || b.node.frames() == 3);
    let arrived = b.node.take_handled();
    assert_eq!(arrived[0].2, "before");
    assert!(arrived[1].2 == largest);
    assert_eq!(arrived[2].2, "after");
}

#[test]
fn frames_sent_before_the_connection_is_made_wait_for_it() {
    let (a, b) = (member(1), member(2));
    a.transport.peers_changed(&[b.info()]);
    a.send(b.id, "early");
    wait_until("it has arrived", || b.node.frames() == 1);
    assert_eq!(b.node.texts(), ["early"]);
}

#[test]
fn a_name_is_looked_up() {
    let (a, b) = (member(1), member(2));
    let address = format!("localhost:{}", b.transport.local_addr().port());
    a.transport.peers_changed(&[PeerInfo { node: b.id, address }]);
    a.send(b.id, "by name");
    wait_until("it has arrived", || b.node.frames() == 1);
}

#[test]
fn a_new_address_is_followed_and_a_peer_that_left_is_forgotten() {
    let (a, before, after) = (member(1), member(2), member(2));
    introduce(&[&a, &before]);
    a.send(before.id, "old");
    wait_until("it has arrived", || before.node.frames() == 1);
    a.transport.peers_changed(&[after.info()]);
    wait_until("a is connected again", || a.transport.stats().connects == 2);
    a.send(after.id, "new");
    wait_until("it has arrived", || after.node.frames() == 1);
    assert_eq!((before.node.texts(), after.node.texts()), (vec!["old".to_owned()], vec!["new".to_owned()]));
    a.transport.peers_changed(&[]);
    let late = a.transport.try_send(after.id, Lane::Request, Bytes::new());
    assert_eq!(late, Err(SendError::UnknownPeer));
}

#[test]
fn a_node_may_be_its_own_peer() {
    let a = member(1);
    a.transport.peers_changed(&[a.info()]);
    a.send(a.id, "to myself");
    wait_until("it has arrived", || a.node.frames() == 1);
}

#[test]
fn turns_come_when_they_are_asked_for_and_not_otherwise() {
    let a = member(1);
    let turns = || a.node.turns.load(Ordering::Relaxed);
    wait_until("the first turn has run", || turns() == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(turns(), 1, "nothing happened and nothing was asked for");
    *a.node.answer.lock().unwrap() = Turn::Wait(Some(Duration::from_millis(20)));
    let woken = Instant::now();
    a.node.in_a_turn(|_| {});
    wait_until("the time it asked for has passed thrice", || turns() >= 5);
    assert!(woken.elapsed() >= Duration::from_millis(60), "not earlier: {:?}", woken.elapsed());
}

#[test]
fn a_flood_from_one_peer_does_not_starve_another() {
    let (a, b) = (member(1), member(2));
    introduce(&[&a, &b]);
    // 64 MiB that are there already when the small frame comes, as fast as the kernel hands them over.
    let piece = encoded(&vec![1; 64 << 10]).repeat(64);
    let nowhere = PeerInfo { node: NodeId(9), address: "127.0.0.1:1".to_owned() };
    b.transport.peers_changed(&[a.info(), nowhere]);
    let mut flood = Stranger::dial_as(&b, 9);
    let flooding = std::thread::spawn(move || {
        (0..16).for_each(|_| flood.write(&piece));
        flood
    });
    wait_until("the flood has begun", || b.node.frames() > 50);
    a.send(b.id, "small");
    wait_until("all has arrived", || b.node.frames() == 64 * 16 + 1);
    flooding.join().unwrap();
    let place = b.node.take_handled().iter().position(|(from, _, _)| *from == NodeId(1)).unwrap();
    assert!(place < 64 * 16, "the small frame came last");
}
