//! Settings of the transport.

use std::time::Duration;

/// Settings of a [`TcpTransport`](super::TcpTransport). The defaults suit a cluster in one data centre.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// How many bytes may wait for one peer before [`SendError::Full`](crate::transport::SendError::Full). Bulk frames get
    /// half of it, control frames a mebibyte more, and an empty queue takes any frame. More rides out longer pauses of a
    /// peer and costs that much memory per slow peer. 64 MiB.
    pub queue_bytes_max: usize,
    /// How long a connection may take to show its preamble, in both directions, before it is closed; and how long one may
    /// last whose other end claims to be a node that this one was not told of. 5 s.
    pub greeting_timeout: Duration,
    /// How long a peer may take nothing, with frames waiting, before the connection is given up. 10 s.
    pub stall_timeout: Duration,
    /// The first wait before a peer is dialed again; each failure doubles it. 20 ms.
    pub redial_wait: Duration,
    /// The longest wait before a peer is dialed again: how late, at most, a node that came back is noticed by a peer
    /// that it does not dial itself. 1 s.
    pub redial_wait_max: Duration,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            queue_bytes_max: 64 << 20,
            greeting_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            redial_wait: Duration::from_millis(20),
            redial_wait_max: Duration::from_secs(1),
        }
    }
}
