//! The plot of the cluster bench.
//!
//! 1. Start three nodes, each a process with its files, and three more in memory; beside them, where a `redis-server` is
//!    installed, a Redis primary with two replicas, once with every write synced and once in memory.
//! 2. Fill all of them with the same keys.
//! 3. In each round and for each load, one after the other: ours, then Redis. The same driver sends both the same commands.
//! 4. Medians of the rounds, and the ratio between them.

pub mod front;
pub mod load;
pub mod node_process;
pub mod resp;
pub mod servers;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use tempfile::TempDir;
use thiserror::Error;

use self::load::{Kind, Load, LoadError, Measured, key, value};
use self::node_process::NodeArguments;
use self::servers::{Nodes, Redis, SERVERS, ServersError};

/// How Redis is asked to answer only when a replica has a write too.
const WAIT_FOR_ONE: &[&[u8]] = &[b"WAIT", b"1", b"10000"];

/// Three nodes as three processes under load, beside a Redis primary with two replicas in the same run, where there is a
/// redis-server.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "cluster_bench", max_term_width = 100)]
pub struct Arguments {
    /// How long each load takes, in each round
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,

    /// How many rounds; medians are reported
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=101))]
    pub rounds: u64,

    /// Keys that are there
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub keys: u64,

    /// Length of each value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(16..=65_536))]
    pub value_bytes: u64,

    /// Only loads whose name contains this
    #[arg(long)]
    pub only: Option<String>,

    /// Leave Redis out
    #[arg(long)]
    pub no_redis: bool,

    /// A node, when the bench starts itself
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
}

/// What the bench starts itself as.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// One node
    #[command(hide = true)]
    Node(NodeArguments),
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// See [`ServersError`].
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// A load failed.
    #[error("{who}, {load}: {source}")]
    Load {
        /// Who was loaded.
        who: &'static str,
        /// How.
        load: String,
        /// Why.
        source: LoadError,
    },
    /// A directory.
    #[error("a directory: {0}")]
    Directory(#[from] io::Error),
    /// The filter left nothing.
    #[error("no load has a name that contains {0:?}")]
    NoLoad(String),
}

/// What is measured.
#[derive(Copy, Clone, Debug)]
pub struct Scenario {
    durable: bool,
    kind: Kind,
    clients: usize,
    pipeline: usize,
    /// How many times Redis is aimed at.
    target: f64,
}

const DURABLE_PUT: Scenario = Scenario { durable: true, kind: Kind::Put, clients: 1, pipeline: 1, target: 1.4 };
const MEMORY_PUT: Scenario = Scenario { durable: false, target: 1.1, ..DURABLE_PUT };
const GET: Scenario = Scenario { kind: Kind::Get, target: 0.6, ..DURABLE_PUT };

/// All loads.
pub const SCENARIOS: [Scenario; 12] = [
    DURABLE_PUT,
    Scenario { clients: 16, target: 1.8, ..DURABLE_PUT },
    Scenario { clients: 64, target: 1.5, ..DURABLE_PUT },
    Scenario { clients: 16, pipeline: 16, ..DURABLE_PUT },
    MEMORY_PUT,
    Scenario { clients: 16, ..MEMORY_PUT },
    Scenario { clients: 64, ..MEMORY_PUT },
    Scenario { clients: 16, pipeline: 16, ..MEMORY_PUT },
    GET,
    Scenario { clients: 16, ..GET },
    Scenario { clients: 64, ..GET },
    Scenario { clients: 16, pipeline: 16, ..GET },
];

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.kind, self.durable) {
            (Kind::Put, true) => "durable put",
            (Kind::Put, false) => "put in memory",
            (Kind::Get, _) => "quorum get",
        };
        write!(f, "{what}, {} client{}", self.clients, if self.clients == 1 { "" } else { "s" })?;
        if self.pipeline > 1 { write!(f, " x {}", self.pipeline) } else { Ok(()) }
    }
}

/// What came of one scenario on one side.
#[derive(Clone, Debug)]
pub struct Side {
    /// Commands a second, the median of the rounds.
    pub rate: f64,
    /// The rates of the slowest and the fastest round.
    pub range: (f64, f64),
    /// Microseconds for a batch: half of them, and all but one in a hundred, of all rounds.
    pub p50_p99_us: (u64, u64),
}

/// A row of the result.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub scenario: Scenario,
    /// Three nodes.
    pub ours: Side,
    /// Redis, where it is installed.
    pub redis: Option<Side>,
    /// Of durable puts: syncs of a node's log for each put.
    pub syncs_per_put: Option<f64>,
}

impl Row {
    /// How many times the other's rate ours is.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.redis.as_ref().map(|redis| self.ours.rate / redis.rate)
    }
}

/// Runs everything; `each` hears of each load that was done.
///
/// # Errors
/// [`BenchError`].
pub fn run(arguments: &Arguments, each: &mut dyn FnMut(&str)) -> Result<Vec<Row>, BenchError> {
    let only = arguments.only.as_deref().unwrap_or_default();
    let scenarios: Vec<Scenario> =
        SCENARIOS.into_iter().filter(|scenario| scenario.to_string().contains(only)).collect();
    if scenarios.is_empty() {
        return Err(BenchError::NoLoad(only.to_owned()));
    }
    let home = TempDir::new()?;
    let mut stands = Vec::new();
    for durable in [true, false] {
        if scenarios.iter().any(|scenario| scenario.durable == durable) {
            let nodes = Nodes::start(durable.then(|| home.path()))?;
            let redis = if arguments.no_redis || Redis::installed().is_none() {
                None
            } else {
                Some(Redis::start(&home.path().join(if durable { "durable" } else { "memory" }), durable)?)
            };
            let stand = Stand { durable, nodes, redis };
            fill(&stand, arguments)?;
            stands.push(stand);
        }
    }
    let mut rounds: Vec<Rounds> = scenarios.iter().map(|_| Rounds::default()).collect();
    for round in 0..arguments.rounds {
        for (scenario, results) in scenarios.iter().zip(&mut rounds) {
            let stand = stands.iter().find(|stand| stand.durable == scenario.durable).expect("it was started");
            let load = arguments.load(*scenario, round);
            let syncs = stand.syncs(scenario)?;
            let ours = stand.measure("ours", &stand.nodes.addresses(), scenario, &load)?;
            results.syncs += stand.syncs(scenario)? - syncs;
            results.ours.push(ours);
            if let Some(redis) = &stand.redis {
                let confirm = (load.kind == Kind::Put).then_some(WAIT_FOR_ONE);
                let load = Load { confirm, ..load };
                results.redis.push(stand.measure("redis", &redis.addresses(), scenario, &load)?);
            }
            each(&format!("round {}: {scenario}", round + 1));
        }
    }
    Ok(scenarios.into_iter().zip(rounds).map(|(scenario, results)| results.row(scenario)).collect())
}

impl Arguments {
    fn load(&self, scenario: Scenario, round: u64) -> Load {
        Load {
            kind: scenario.kind,
            clients: scenario.clients,
            pipeline: scenario.pipeline,
            confirm: None,
            keys: self.keys,
            value_bytes: usize::try_from(self.value_bytes).expect("a few"),
            span: Duration::from_secs(self.seconds),
            seed: round + 1,
        }
    }
}

/// Servers side by side, with the same promise.
struct Stand {
    durable: bool,
    nodes: Nodes,
    redis: Option<Redis>,
}

impl Stand {
    fn measure(
        &self,
        who: &'static str,
        servers: &[SocketAddr],
        scenario: &Scenario,
        load: &Load,
    ) -> Result<Measured, BenchError> {
        load::run(servers, load).map_err(|source| BenchError::Load { who, load: scenario.to_string(), source })
    }

    fn syncs(&self, scenario: &Scenario) -> Result<u64, BenchError> {
        let error = |source| BenchError::Load { who: "ours", load: scenario.to_string(), source };
        self.nodes.syncs().map_err(error)
    }
}

/// Every key gets a value, so that every read finds one.
fn fill(stand: &Stand, arguments: &Arguments) -> Result<(), BenchError> {
    let fill = |who, servers: Vec<SocketAddr>| {
        let value_bytes = usize::try_from(arguments.value_bytes).expect("a few");
        let write = || {
            let mut at = servers.iter().cycle();
            for from in (0..arguments.keys).step_by(FILL_BATCH) {
                let batch: Vec<_> = (from..arguments.keys.min(from + FILL_BATCH as u64))
                    .map(|number| (key(number), value(number, value_bytes)))
                    .collect();
                load::fill(*at.next().expect("a cycle"), &batch)?;
            }
            Ok(())
        };
        write().map_err(|source| BenchError::Load { who, load: "filling".to_owned(), source })
    };
    fill("ours", stand.nodes.addresses())?;
    stand.redis.as_ref().map_or(Ok(()), |redis| fill("redis", redis.addresses()))
}

const FILL_BATCH: usize = 1000;

#[derive(Default)]
struct Rounds {
    ours: Vec<Measured>,
    redis: Vec<Measured>,
    syncs: u64,
}

impl Rounds {
    fn row(self, scenario: Scenario) -> Row {
        let puts: u64 = self.ours.iter().map(|measured| measured.operations).sum();
        let counts = scenario.durable && scenario.kind == Kind::Put;
        Row {
            scenario,
            ours: Side::of(&self.ours).expect("at least one round"),
            redis: Side::of(&self.redis),
            syncs_per_put: counts.then(|| self.syncs as f64 / SERVERS as f64 / puts as f64),
        }
    }
}

impl Side {
    fn of(rounds: &[Measured]) -> Option<Self> {
        let mut rates: Vec<f64> = rounds.iter().map(Measured::rate).collect();
        rates.sort_by(f64::total_cmp);
        let mut batches = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        for round in rounds {
            batches.add(&round.batches).expect("all have the same bounds");
        }
        Some(Self {
            rate: *rates.get(rates.len() / 2)?,
            range: (*rates.first()?, *rates.last()?),
            p50_p99_us: (batches.value_at_quantile(0.5), batches.value_at_quantile(0.99)),
        })
    }
}

/// The result as lines of a table, with the targets.
#[must_use]
pub fn table(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<28}{:>12}{:>16}{:>12}{:>16}{:>8}{:>8}{:>12}",
        "", "ours/s", "p50/p99 us", "redis/s", "p50/p99 us", "ratio", "aim", "syncs/put"
    )];
    for row in rows {
        let times = |side: &Side| format!("{}/{}", side.p50_p99_us.0, side.p50_p99_us.1);
        let redis = |show: &dyn Fn(&Side) -> String| row.redis.as_ref().map_or_else(|| "-".to_owned(), show);
        lines.push(format!(
            "{:<28}{:>12.0}{:>16}{:>12}{:>16}{:>8}{:>8.1}{:>12}",
            row.scenario.to_string(),
            row.ours.rate,
            times(&row.ours),
            redis(&|side| format!("{:.0}", side.rate)),
            redis(&times),
            row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            row.scenario.target,
            row.syncs_per_put.map_or_else(|| "-".to_owned(), |syncs| format!("{syncs:.3}")),
        ));
    }
    lines
}
