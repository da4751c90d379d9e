use proptest::prelude::*;

use super::*;

/// The worked example of the document, as it stands there.
const PROTOCOL: &str = include_str!("../../../../../docs/protocol.md");

/// The bytes of the code block that follows `heading`, comments after `#` left out.
fn bytes_in_document(heading: &str) -> Vec<u8> {
    let after = PROTOCOL.split_once(heading).expect("the heading is there").1;
    let block = after.split("```").nth(1).expect("a code block follows");
    let hex = block.lines().skip(1).map(|line| line.split('#').next().unwrap_or_default());
    let digits = hex.flat_map(str::split_whitespace);
    digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn the_preamble_is_the_documented_one() {
    let documented = bytes_in_document("### Example: the preamble of node 3");
    assert_eq!(Preamble::of(NodeId(3)).encode(), documented);
    assert_eq!(Preamble::decode(&documented), Ok(Some((Preamble::of(NodeId(3)), documented.len()))));
}

#[test]
fn the_frame_is_the_documented_one() {
    let documented = bytes_in_document("### Example: a frame");
    let header = FrameHeader::encode(Lane::Request, b"hello");
    assert_eq!([&header[..], b"hello"].concat(), documented);
    let decoded = FrameHeader::decode(&documented).unwrap().unwrap();
    assert_eq!((decoded.length, decoded.lane), (5, Lane::Request));
    decoded.check(b"hello").unwrap();
}

#[test]
fn an_extension_is_skipped() {
    let mut bytes = Preamble::of(NodeId(3)).encode();
    bytes.truncate(PREAMBLE_HEAD_BYTES);
    bytes[PREAMBLE_HEAD_BYTES - 2..].copy_from_slice(&3_u16.to_le_bytes());
    bytes.extend_from_slice(b"new");
    let crc = crc32(&[&bytes]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(Preamble::decode(&bytes), Ok(Some((Preamble::of(NodeId(3)), bytes.len()))));
    bytes[PREAMBLE_HEAD_BYTES] ^= 1;
    assert_eq!(Preamble::decode(&bytes), Err(Malformed::PreambleChecksum), "the checksum covers it");
}

#[test]
fn a_preamble_never_needs_more_than_its_limit() {
    let mut bytes = Preamble::of(NodeId(3)).encode();
    bytes.truncate(PREAMBLE_HEAD_BYTES);
    let longest = u16::try_from(EXTENSION_BYTES_MAX).unwrap();
    bytes[PREAMBLE_HEAD_BYTES - 2..].copy_from_slice(&longest.to_le_bytes());
    bytes.resize(PREAMBLE_BYTES_MAX - 1, 0);
    assert_eq!(Preamble::decode(&bytes), Ok(None));
    bytes.push(0);
    assert_eq!(Preamble::decode(&bytes), Err(Malformed::PreambleChecksum));
    bytes[PREAMBLE_HEAD_BYTES - 2..PREAMBLE_HEAD_BYTES].copy_from_slice(&(longest + 1).to_le_bytes());
    assert_eq!(Preamble::decode(&bytes), Err(Malformed::ExtensionTooLong(EXTENSION_BYTES_MAX + 1)));
}

#[test]
fn versions_must_overlap_and_nobody_is_nobody() {
    let preamble = |protocol_min, protocol_max, node| Preamble { protocol_min, protocol_max, features: 0, node };
    assert!(preamble(0, 1, NodeId(1)).is_acceptable());
    assert!(preamble(1, 9, NodeId(1)).is_acceptable());
    assert!(!preamble(2, 9, NodeId(1)).is_acceptable());
    assert!(!preamble(0, 0, NodeId(1)).is_acceptable());
    assert!(!preamble(1, 1, NodeId(0)).is_acceptable());
    let newer = Preamble { features: u64::MAX, ..preamble(1, 1, NodeId(1)) };
    assert!(newer.is_acceptable(), "features are offers");
}

#[test]
fn a_length_is_checked_before_anything_else() {
    let mut header = FrameHeader::encode(Lane::Bulk, b"");
    header[..4].copy_from_slice(&u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes());
    assert_eq!(FrameHeader::decode(&header).unwrap().unwrap().length, FRAME_BYTES_MAX);
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(FrameHeader::decode(&header), Err(Malformed::FrameTooLong(u32::MAX as usize)));
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let preamble = Preamble::of(NodeId(0x0102_0304)).encode();
    for bit in 0..preamble.len() * 8 {
        let mut flipped = preamble.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let decoded = Preamble::decode(&flipped);
        assert!(matches!(decoded, Err(_) | Ok(None)), "bit {bit} gave {decoded:?}");
    }
    let frame = [&FrameHeader::encode(Lane::Control, b"payload")[..], b"payload"].concat();
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let accepted = match FrameHeader::decode(&flipped) {
            Ok(Some(header)) => {
                let bytes = flipped.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.length);
                bytes.is_some_and(|bytes| header.check(bytes).is_ok())
            }
            Ok(None) | Err(_) => false,
        };
        assert!(!accepted, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, with_magic: bool) {
        let bytes = if with_magic { [&MAGIC[..], &bytes].concat() } else { bytes };
        if let Ok(Some((_, length))) = Preamble::decode(&bytes) {
            prop_assert!(length <= bytes.len().min(PREAMBLE_BYTES_MAX));
        }
        if let Ok(Some(header)) = FrameHeader::decode(&bytes) {
            prop_assert!(header.length <= FRAME_BYTES_MAX);
        }
    }
}
