//! A whole cluster in one thread, from a seed.
//!
//! The nodes are the real ones: the machines, the batching loop, frames as bytes. What is simulated is what surrounds them: a
//! network that loses, duplicates, delays and reorders; clocks that are wrong and jump; disks that sync late and forget what
//! was not synced when the power goes; and processes that stop, start again, and pause. One seed, one run: the same seed
//! gives the same trace hash.
//!
//! [`World`] is the cluster, to be scripted. [`run`] lets clients and chaos loose on one and checks what they see:
//! no acknowledged write lost, no read that goes back in time, nothing deleted that comes back, no dot minted twice, and
//! replicas that are equal after all is healed.
//!
//! [`Swarm`] is failure detection alone, for clusters of a thousand nodes.
//!
//! Stores come from a [`StoreFactory`], so that a simulation runs over any store that can lose its unsynced part.

#[cfg(test)]
mod ambiguity_rules;
#[cfg(test)]
mod batch_rules;
mod batches;
#[cfg(test)]
mod birth_rules;
#[cfg(test)]
mod cache_rules;
mod caches;
mod chaos;
mod clients;
#[cfg(test)]
mod data_type_rules;
mod data_types;
#[cfg(test)]
mod describe_rules;
mod factory;
#[cfg(test)]
mod gossip_rules;
#[cfg(test)]
mod hint_rules;
#[cfg(test)]
mod hint_runs;
#[cfg(test)]
mod level_rules;
mod network;
#[cfg(test)]
mod note_rules;
mod options;
#[cfg(test)]
mod overload_rules;
#[cfg(test)]
mod purge_rules;
#[cfg(test)]
mod read_rules;
#[cfg(test)]
mod refusal_rules;
#[cfg(test)]
mod removal_rules;
#[cfg(test)]
mod repair_rules;
#[cfg(test)]
mod replacement_rules;
#[cfg(test)]
mod rules;
mod run;
#[cfg(test)]
mod scan_rules;
mod scans;
#[cfg(test)]
mod session_rules;
#[cfg(test)]
mod sloppy_rules;
mod swarm;
mod values;
mod workload;
mod world;

pub use chaos::Faults;
pub use factory::{MemStores, StoreFactory};
pub use network::NetworkFaults;
pub use options::Options;
pub use run::{Report, run};
pub use swarm::{Seen, Swarm};
pub use world::{Answer, BatchPart, World};

pub use crate::sabotage::Sabotage;
