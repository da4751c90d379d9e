//! What fuzzers call: any bytes go in, and a broken rule panics.
//!
//! Bytes that were not written by a node give an error or a value, never a panic, and a value reads the same when it is
//! written again. No fuzzer guesses a checksum, so frames are tried twice: as they are, and with the checksum made right.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::{Incarnation, VersionVector};

use crate::gossip::Gossip;
use crate::identity::{Boot, Identity};
use crate::liveness::Claim;
use crate::machine::{Action, Notice};
use crate::message::Message;
use crate::scan::position::Position;
use crate::session::Session;
use crate::wire;

/// A frame from a peer.
pub fn frame(bytes: &[u8]) {
    for bytes in [Bytes::copy_from_slice(bytes), wire::with_right_checksum(bytes)] {
        let Ok(frame) = wire::decode(&bytes) else { continue };
        frame.messages.iter().for_each(remember);
        let mut writer = wire::FrameWriter::new(&frame.header);
        for message in &frame.messages {
            assert!(writer.push(message, usize::MAX), "there is no limit");
        }
        let again = wire::decode(&writer.finish()).expect("what was written can be read");
        assert_eq!((again.header, again.messages), (frame.header, frame.messages));
    }
}

/// What a session does with the answer to a write.
fn remember(message: &Message) {
    if let Message::Forwarded { outcome: Ok(written), .. } = message {
        let mut seen = VersionVector::new();
        seen.insert(written.dot);
        assert!(seen.contains(written.dot));
    }
}

/// What a store holds of hints and owed-repair marks: the length of a key in one byte, the key, then the value.
pub fn hint(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    crate::hints::read_anything(key, value);
    crate::floors::read_anything(key, value);
}

/// Gossip from peers, as frames one after the other, each with its length before it in two bytes. A node of five members
/// takes it in, while time passes: whatever it hears, its beliefs and its own claim only move on, what it sends can be read,
/// and it is never at a loss what to do next.
pub fn gossip(bytes: &[u8]) {
    let me = Identity {
        node: NodeId(1),
        incarnation: Incarnation(1),
        boot: Boot(2),
        nonce: 3,
        epoch: 1,
        quarantined: false,
    };
    let mut machine = Gossip::new(&me, Millis(1000));
    machine.know((1..=5).map(|node| (NodeId(node), Incarnation(node))));
    let mut now = Millis(1);
    machine.begin(now);
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (frame, after) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        rest = after;
        let mut out = Vec::new();
        let before = beliefs(&machine, now);
        if let Ok(frame) = wire::decode(&wire::with_right_checksum(frame)) {
            for message in frame.messages.into_iter().filter(Message::is_gossip) {
                machine.receive(now, frame.header.from, frame.header.from_boot, message, &mut out);
            }
        }
        now = now.saturating_add(Millis(300));
        if machine.next_due() <= now {
            machine.due(now, &mut out);
        }
        assert!(machine.next_due() > now, "what was due is done");
        let after = beliefs(&machine, now);
        assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?} {after:?}");
        assert!(machine.telling() <= 5 * 5, "rumours are of members, and by members");
        for action in out {
            match action {
                Action::Send { to, message, .. } => {
                    assert!((2..=5).contains(&to.0), "a message to no member");
                    let mut frame = wire::FrameWriter::new(&header(to));
                    assert!(frame.push(&message, 32 * 1024), "small");
                    assert_eq!(wire::decode(&frame.finish()).expect("it can be read").messages, [message]);
                }
                Action::Notify(Notice::Liveness(_) | Notice::Dropped(_)) => {}
                other => panic!("not what this machine does: {other:?}"),
            }
        }
    }
}

/// A session's token that a client has carried about, as it is and with the checksum made right.
pub fn session(bytes: &[u8]) {
    let mut right = bytes.get(..bytes.len().saturating_sub(4)).unwrap_or_default().to_vec();
    let checksum = kv_core::checksum::crc32(&[&right]);
    right.extend_from_slice(&checksum.to_le_bytes());
    for bytes in [bytes, &right] {
        if let Ok(session) = Session::resume(bytes) {
            let token = session.token();
            let again = Session::resume(&token).expect("what was written can be read");
            assert_eq!(again.token(), token);
        }
    }
}

/// The cursor of a scan that a client has carried about, as it is and with the checksum made right.
pub fn cursor(bytes: &[u8]) {
    let mut right = bytes.get(..bytes.len().saturating_sub(4)).unwrap_or_default().to_vec();
    let checksum = kv_core::checksum::crc32(&[&right]);
    right.extend_from_slice(&checksum.to_le_bytes());
    for bytes in [bytes, &right] {
        if let Ok(position) = Position::decode_any(bytes) {
            assert!(!position.is_empty(), "a cursor that leads nowhere");
            let cluster = crate::identity::ClusterId(u128::from(position.cluster.expect("a cursor names its cluster")));
            let again = Position::decode(&position.encode(cluster), position.table);
            assert_eq!(again.expect("what was written can be read"), position);
        }
    }
}

fn header(to: NodeId) -> wire::Header {
    wire::Header {
        cluster: crate::identity::ClusterId(1),
        from: NodeId(1),
        from_incarnation: Incarnation(1),
        from_boot: Boot(2),
        to_incarnation: Incarnation(to.0),
        to_boot: Boot(1),
    }
}

fn beliefs(machine: &Gossip, now: Millis) -> Vec<(Claim, u8)> {
    let of = |node| machine.belief(NodeId(node), now).map(|belief| (belief.claim, belief.liveness as u8));
    std::iter::once((machine.claim(), 0)).chain((2..=5).filter_map(of)).collect()
}
