//! What a simulated run is made of.

use super::network::NetworkFaults;

/// Size and roughness of a run. Times are simulated.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Into how many zones the nodes are dealt out.
    pub zones: u64,
    /// How many nodes hold each key.
    pub replicas: usize,
    /// How many clients, each with one operation under way at a time.
    pub clients: usize,
    /// Whether every other client has a session, and asks for less than a quorum most of the time.
    pub sessions: bool,
    /// How many keys they share, in each of two tables. Few keys make conflicts frequent.
    pub keys: usize,
    /// For how long clients and chaos go on, in milliseconds; healing comes after.
    pub duration_ms: u64,
    /// What the network does to frames.
    pub network: NetworkFaults,
    /// Average pause between two faults of nodes, links, clocks and disks, in milliseconds; zero for none.
    pub chaos_every_ms: u64,
    /// How often replicas compare what they hold, in milliseconds; zero for never.
    pub repair_every_ms: u64,
    /// How many bytes a node keeps for replicas that have missed something; `None` when nothing is kept, nor owed.
    pub hint_bytes_max: Option<u64>,
    /// How many bytes of it a node sends in a second.
    pub hint_bytes_per_second: u64,
    /// How long it is kept, in milliseconds.
    pub hint_age_ms: u64,
    /// Whether there are sloppy tables, and clients that write to them.
    pub sloppy: bool,
    /// How long what is deleted is kept at least, in milliseconds; zero for ever.
    pub purge_after_ms: u64,
    /// For how long only a third of the keys is read and written, in milliseconds, before it is the next third's turn; zero when all
    /// are at any time. What is deleted last in such a while is left alone for long enough to be forgotten.
    pub spell_ms: u64,
    /// How long a sync may take, in microseconds.
    pub sync_max_us: u64,
    /// How far wall clocks may be off, in milliseconds, in either direction.
    pub clock_skew_ms: u64,
    /// Most versions a record may hold before a write that replaces none is refused.
    pub siblings_max: usize,
}

impl Options {
    /// A run of the usual roughness, with the number of nodes and clients drawn from the seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x006f_7074_696f_6e73);
        let options = Self {
            seed,
            nodes: random.u64(3..=6),
            replicas: 3,
            clients: random.usize(2..=6),
            keys: random.usize(1..=6),
            duration_ms: 20_000,
            network: NetworkFaults {
                loss: random.f64() * 0.1,
                duplication: random.f64() * 0.1,
                delay_max_us: random.u64(500..=30_000),
                straggler: 0.01,
            },
            chaos_every_ms: [300, 1_000, 3_000, 6_000][random.usize(..4)],
            sync_max_us: 10_u64.pow(random.u32(2..=5)),
            clock_skew_ms: random.u64(0..=150),
            siblings_max: 20,
            repair_every_ms: [1_000, 3_000, 10_000][random.usize(..3)],
            hint_bytes_max: Some([0, 1_000, 10_000, 1 << 20][random.usize(..4)]),
            hint_bytes_per_second: [2_000, 100_000, 1 << 20][random.usize(..3)],
            hint_age_ms: [2_000, 3_600_000][random.usize(..2)],
            sessions: true,
            sloppy: true,
            zones: random.u64(1..=3),
            purge_after_ms: [0, 500, 1_000, 3_000][random.usize(..4)],
            spell_ms: 0,
        };
        Self { spell_ms: if random.bool() { options.purge_after_ms.min(1_000) * 3 } else { 0 }, ..options }
    }

    /// A network and nodes without faults.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self { network: NetworkFaults::default(), chaos_every_ms: 0, clock_skew_ms: 0, ..Self::from_seed(seed) }
    }
}
