//! What a transport has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a [`TcpTransport`](super::TcpTransport) since it was bound. Read one after the other while the loop
        /// runs: each is right, their sum may be a moment apart.
        #[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
        pub struct TcpStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The live counters.
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> TcpStats {
                TcpStats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Turns of the node that the loop ran.
    turns,
    /// Frames delivered to the node.
    frames_in,
    /// Bytes read from sockets.
    bytes_in,
    /// Reads that brought bytes.
    reads,
    /// Frames handed to the kernel whole.
    frames_out,
    /// Bytes of frames handed to the kernel.
    bytes_out,
    /// Writes of frames that took bytes: one per peer and turn unless a socket was full.
    writes,
    /// Frames that were taken and then lost, because their connection broke or could not be made.
    frames_dropped,
    /// Inbound connections accepted.
    accepted,
    /// Outbound connections on which the peer's preamble was accepted.
    connects,
    /// Those of `connects` that followed an earlier connection to the same peer.
    reconnects,
    /// Attempts to connect that failed.
    dial_failures,
    /// Connections closed, in both directions, for the lack of a valid preamble: garbage, another protocol version, the
    /// wrong node, silence, or too many strangers at once.
    refused_preambles,
    /// Inbound connections closed whose other end claimed to be a node that this one was not told of: for too many at once,
    /// for too much or too large frames, or because it was not told in time.
    strangers_closed,
    /// Connections closed for a frame with a wrong checksum, length or lane, or for bytes where none belong.
    bad_frames,
    /// Connections closed because nothing could be written for too long.
    stalled,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        // A usize fits 64 bits wherever this runs.
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }
}
