//! Settings of a node, checked once.

use std::time::Duration;

use kv_core::hlc::Hlc;
use kv_core::limits::{SIBLINGS_MAX, VALUE_BYTES_MAX};
use kv_core::time::Millis;
use thiserror::Error;

/// Settings of a node. The defaults suit a cluster in one place.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a request may take when it does not say. Longer hides outages from callers; shorter gives up on writes
    /// that would have been acknowledged.
    pub deadline: Duration,
    /// How long to wait for replies before asking again, and before asking further replicas; doubles each time. Choose
    /// a few round trips and one slow sync.
    pub retry_after: Duration,
    /// How often to greet members: all of up to sixteen, so many in turn of more. A peer that vanished without closing its
    /// connection is noticed at this pace.
    pub hello_every: Duration,
    /// How often to ask one other node whether it lives. A node that dies is noticed within a few of these, and everybody
    /// believes it dead within some ten to twenty. Choose several round trips; the cost of each is a few small frames.
    pub gossip_every: Duration,
    /// How often each two replicas of a partition compare what they hold, whether anybody reads it or not. Shorter mends
    /// sooner what no read has found; each comparison of equal replicas costs one small message each way, and reading the
    /// parts that were written since the last one. `Duration::MAX` for never.
    pub repair_every: Duration,
    /// How many bytes a node may send and receive in each second for these comparisons and for what they mend.
    pub repair_bytes_per_second: u64,
    /// Whether a coordinator keeps what a replica has missed, and hands it over when the replica is back. Without it, what was
    /// missed is found by anti-entropy and by reads.
    pub hinted_handoff: bool,
    /// How many bytes a node may keep for others, on its disk, keys included: choose what is written to one node in the time that
    /// one may be away without a comparison afterwards. One node that is away gets up to three quarters of it. What does not fit
    /// is left to a comparison of the partitions that it lies in.
    pub hint_bytes_max: u64,
    /// How long something is kept for a node. Longer spares comparisons after long absences; it holds up the removal of
    /// tombstones as long.
    pub hint_age_max: Duration,
    /// How many bytes a node may send in each second of what it has kept for others.
    pub hint_bytes_per_second: u64,
    /// For how long a delete is kept at least, and a version that has expired, before it is forgotten and its room is used again. They are
    /// forgotten once every replica holds them, so this need not be as long as nodes may be away. Longer costs room; shorter than a
    /// minute or so has replicas ask each other all the time. `Duration::MAX` for ever.
    pub purge_after: Duration,
    /// Most versions a record may hold before a write that replaces none of them is refused.
    pub siblings_max: usize,
    /// Longest value of a put, in bytes.
    pub value_bytes_max: usize,
    /// How far a stamp may be minted ahead of the wall clock.
    pub clock_drift_max: Duration,
    /// Into how many partitions the hash space of each table is cut when this node founds a cluster: a power of two. A
    /// hundred for each node the cluster may ever have keeps the shares within a percent of each other.
    pub partitions: u32,
    /// Most requests of clients that may wait or be under way at one node, and as many of peers besides; further ones are
    /// refused with `Overloaded`. Choose what the node answers within half a second: those behind would wait longer than their
    /// clients do.
    pub requests_max: usize,
    /// How many bytes all of these may take, keys and values included, of clients and as many of peers besides. Writes that
    /// were answered, while a slow replica has yet to acknowledge them, may take as much once more.
    pub request_bytes_max: usize,
    /// How many bytes of frames of one peer may wait for the node's next turn, in each of three lanes: failure detection and the
    /// like, requests, and repairs. Frames beyond that are dropped, and asked for again by whoever misses their answer. Choose what
    /// a peer sends while the node is held up for a second.
    pub peer_bytes_max: usize,
    /// How many bytes of answers may wait for the disk of one node before it refuses what would wait as well. Choose what one slow
    /// sync lets gather.
    pub held_bytes_max: usize,
    /// Most requests in one batch. Larger batches save little, and hold up what comes after them.
    pub batch_requests_max: usize,
    /// Most bytes of keys, values and contexts in one batch.
    pub batch_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            retry_after: Duration::from_millis(200),
            hello_every: Duration::from_secs(1),
            gossip_every: Duration::from_secs(1),
            repair_every: Duration::from_secs(600),
            repair_bytes_per_second: 8 << 20,
            hinted_handoff: true,
            hint_bytes_max: 256 << 20,
            hint_age_max: Duration::from_secs(3 * 3600),
            hint_bytes_per_second: 4 << 20,
            purge_after: Duration::from_secs(3600),
            siblings_max: SIBLINGS_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            clock_drift_max: Hlc::DRIFT_MAX.as_duration(),
            partitions: 1024,
            requests_max: 100_000,
            request_bytes_max: 256 << 20,
            peer_bytes_max: 64 << 20,
            held_bytes_max: 64 << 20,
            batch_requests_max: 1_000,
            batch_bytes_max: 8 << 20,
        }
    }
}

/// The smallest frame a transport may offer.
pub(crate) const FRAME_BYTES_MIN: usize = 32 * 1024;

/// A period is cut into parts that clocks of a millisecond must tell apart.
const GOSSIP_EVERY_MIN: Millis = Millis(20);
/// No death would be noticed for days.
const GOSSIP_EVERY_MAX: Millis = Millis(3_600_000);

/// A setting that cannot work.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("{setting}: {why}")]
pub struct InvalidConfig {
    /// Which.
    pub setting: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// [`Config`] after the check, in the units of the protocols.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) deadline: Millis,
    pub(crate) retry_after: Millis,
    pub(crate) hello_every: Millis,
    pub(crate) gossip_every: Millis,
    pub(crate) repair_every: Millis,
    /// `None` for never.
    pub(crate) purge_after: Option<Millis>,
    pub(crate) repair_bytes_per_second: u64,
    pub(crate) hinted_handoff: bool,
    pub(crate) hint_bytes_max: u64,
    pub(crate) hint_age_max: Millis,
    pub(crate) hint_bytes_per_second: u64,
    pub(crate) siblings_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) clock_drift_max: Millis,
    pub(crate) requests_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) peer_bytes_max: usize,
    pub(crate) held_bytes_max: usize,
    pub(crate) batch_requests_max: usize,
    pub(crate) batch_bytes_max: usize,
    pub(crate) record_bytes_max: usize,
}

impl Settings {
    /// `frame_bytes_max` is what every peer can be sent.
    pub(crate) fn check(config: &Config, frame_bytes_max: usize) -> Result<Self, InvalidConfig> {
        let positive = |setting, span: Duration| match Millis::from(span) {
            Millis::ZERO => Err(InvalidConfig { setting, why: "must be at least a millisecond" }),
            span => Ok(span),
        };
        if config.siblings_max == 0 {
            return Err(InvalidConfig { setting: "siblings_max", why: "a record holds at least one version" });
        }
        if config.value_bytes_max > VALUE_BYTES_MAX {
            return Err(InvalidConfig { setting: "value_bytes_max", why: "over the limit of the format" });
        }
        if config.repair_bytes_per_second == 0 {
            return Err(InvalidConfig { setting: "repair_bytes_per_second", why: "no repair could ever run" });
        }
        if config.hint_bytes_per_second == 0 {
            return Err(InvalidConfig { setting: "hint_bytes_per_second", why: "no hint could ever be delivered" });
        }
        if config.requests_max == 0 {
            return Err(InvalidConfig { setting: "requests_max", why: "no request could ever run" });
        }
        if frame_bytes_max < FRAME_BYTES_MIN {
            return Err(InvalidConfig { setting: "max_frame_bytes", why: "less than a layout and a key need" });
        }
        let clock_drift_max = positive("clock_drift_max", config.clock_drift_max)?;
        if clock_drift_max < crate::mint::MARK_AHEAD {
            return Err(InvalidConfig { setting: "clock_drift_max", why: "below what a restart may run ahead" });
        }
        let gossip_every = positive("gossip_every", config.gossip_every)?;
        if !(GOSSIP_EVERY_MIN..=GOSSIP_EVERY_MAX).contains(&gossip_every) {
            return Err(InvalidConfig { setting: "gossip_every", why: "must be from 20 milliseconds to an hour" });
        }
        Ok(Self {
            deadline: positive("deadline", config.deadline)?,
            retry_after: positive("retry_after", config.retry_after)?,
            hello_every: positive("hello_every", config.hello_every)?,
            gossip_every,
            repair_every: positive("repair_every", config.repair_every)?,
            purge_after: if config.purge_after == Duration::MAX {
                None
            } else {
                Some(positive("purge_after", config.purge_after)?)
            },
            repair_bytes_per_second: config.repair_bytes_per_second,
            hinted_handoff: config.hinted_handoff,
            hint_bytes_max: config.hint_bytes_max,
            hint_age_max: positive("hint_age_max", config.hint_age_max)?,
            hint_bytes_per_second: config.hint_bytes_per_second,
            siblings_max: config.siblings_max,
            value_bytes_max: config.value_bytes_max,
            clock_drift_max,
            requests_max: config.requests_max,
            request_bytes_max: config.request_bytes_max,
            peer_bytes_max: config.peer_bytes_max,
            held_bytes_max: config.held_bytes_max,
            batch_requests_max: config.batch_requests_max,
            batch_bytes_max: config.batch_bytes_max,
            // Replicas may hold different versions, and a reply carries their join: half a frame leaves room for it.
            record_bytes_max: frame_bytes_max / 2,
        })
    }
}
