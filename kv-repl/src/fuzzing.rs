//! What fuzzers call: any bytes go in, and a broken rule panics.
//!
//! Bytes that were not written by a node give an error or a value, never a panic, and a value reads the same when it is
//! written again. No fuzzer guesses a checksum, so frames are tried twice: as they are, and with the checksum made right.

use bytes::Bytes;

use crate::wire;

/// A frame from a peer.
pub fn frame(bytes: &[u8]) {
    for bytes in [Bytes::copy_from_slice(bytes), wire::with_right_checksum(bytes)] {
        let Ok(frame) = wire::decode(&bytes) else { continue };
        let mut writer = wire::FrameWriter::new(&frame.header);
        for message in &frame.messages {
            assert!(writer.push(message, usize::MAX), "there is no limit");
        }
        let again = wire::decode(&writer.finish()).expect("what was written can be read");
        assert_eq!((again.header, again.messages), (frame.header, frame.messages));
    }
}
