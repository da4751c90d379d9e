use kv_core::NodeId;
use proptest::prelude::*;

use super::*;
use crate::transport::tcp::frame::FRAME_BYTES_MAX;

fn stream(frames: &[(Lane, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Preamble::of(NodeId(5)).encode();
    for (lane, frame) in frames {
        bytes.extend_from_slice(&FrameHeader::encode(*lane, frame));
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn drain(decoder: &mut Decoder) -> Result<Vec<Received>, Malformed> {
    let mut received = Vec::new();
    while let Some(item) = decoder.next(FRAME_BYTES_MAX)? {
        received.push(item);
    }
    Ok(received)
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Control), Just(Lane::Request), Just(Lane::Bulk)]
}

proptest! {
    #[test]
    fn the_cuts_between_reads_do_not_matter(
        frames in prop::collection::vec((lane(), prop::collection::vec(any::<u8>(), 0..600)), 0..12),
        cuts in prop::collection::vec(1_usize..300, 1..40),
    ) {
        let bytes = stream(&frames);
        let mut decoder = Decoder::default();
        let mut received = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            decoder.push(head);
            received.extend(drain(&mut decoder).unwrap());
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let mut expected = vec![Received::Preamble(Preamble::of(NodeId(5)))];
        expected.extend(frames.into_iter().map(|(lane, frame)| Received::Frame(lane, frame.into())));
        prop_assert_eq!(received, expected);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(after: Vec<u8>, greeted: bool) {
        let bytes = if greeted { [stream(&[]), after].concat() } else { after };
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let _ = drain(&mut decoder);
    }
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let mut decoder = Decoder::default();
    decoder.push(&stream(&[]));
    let mut header = FrameHeader::encode(Lane::Request, b"");
    header[..4].copy_from_slice(&u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes());
    decoder.push(&header);
    assert_eq!(drain(&mut decoder).unwrap().len(), 1);
    assert!(decoder.buffer.capacity() < 4096, "{}", decoder.buffer.capacity());
}

#[test]
fn the_memory_of_a_large_frame_is_let_go() {
    let mut decoder = Decoder::default();
    let mut frames = 0;
    for piece in stream(&[(Lane::Bulk, vec![7; 4 * RETAINED_BYTES])]).chunks(64 << 10) {
        decoder.push(piece);
        frames += drain(&mut decoder).unwrap().len();
    }
    assert_eq!(frames, 2);
    // What is received next would take over the old buffer, which nobody else holds any more.
    decoder.push(&FrameHeader::encode(Lane::Request, b"small"));
    assert!(decoder.buffer.capacity() < RETAINED_BYTES, "{}", decoder.buffer.capacity());
}

#[test]
fn what_follows_a_wrong_checksum_is_not_handed_out() {
    let mut bytes = stream(&[(Lane::Request, b"good".to_vec()), (Lane::Request, b"bad".to_vec())]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    assert!(matches!(decoder.next(FRAME_BYTES_MAX), Ok(Some(Received::Preamble(_)))));
    assert_eq!(decoder.next(FRAME_BYTES_MAX), Ok(Some(Received::Frame(Lane::Request, Bytes::from_static(b"good")))));
    assert_eq!(decoder.next(FRAME_BYTES_MAX), Err(Malformed::FrameChecksum));
}

#[test]
fn memory_grows_with_what_has_come_and_not_with_what_is_claimed() {
    let mut decoder = Decoder::default();
    decoder.push(&stream(&[]));
    assert!(matches!(decoder.next(FRAME_BYTES_MAX), Ok(Some(Received::Preamble(_)))));
    let frame = vec![7; FRAME_BYTES_MAX];
    decoder.push(&FrameHeader::encode(Lane::Bulk, &frame));
    assert_eq!(decoder.next(FRAME_BYTES_MAX), Ok(None));
    assert!(decoder.buffer.capacity() < 4096, "{}", decoder.buffer.capacity());
    let mut pushed = 0;
    for piece in frame.chunks(64 << 10) {
        assert_eq!(decoder.next(FRAME_BYTES_MAX), Ok(None));
        decoder.push(piece);
        pushed += piece.len();
        assert!(decoder.buffer.capacity() <= 2 * pushed + 4096, "{} for {pushed}", decoder.buffer.capacity());
    }
    assert_eq!(decoder.next(FRAME_BYTES_MAX), Ok(Some(Received::Frame(Lane::Bulk, frame.into()))));
}

#[test]
fn a_frame_longer_than_this_connection_may_send_is_refused_by_its_header() {
    let mut decoder = Decoder::default();
    decoder.push(&stream(&[(Lane::Control, vec![7; 100])]));
    assert!(matches!(decoder.next(0), Ok(Some(Received::Preamble(_)))));
    assert_eq!(decoder.next(99), Err(Malformed::FrameTooLong(100)));
    assert_eq!(decoder.next(100), Ok(Some(Received::Frame(Lane::Control, vec![7; 100].into()))));
}
