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
    while let Some(item) = decoder.next()? {
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
    assert!(matches!(decoder.next(), Ok(Some(Received::Preamble(_)))));
    assert_eq!(decoder.next(), Ok(Some(Received::Frame(Lane::Request, Bytes::from_static(b"good")))));
    assert_eq!(decoder.next(), Err(Malformed::FrameChecksum));
}
