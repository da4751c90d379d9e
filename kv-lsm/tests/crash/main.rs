//! The crash battery: the power is cut at every call to the disk, and again inside recovery, every call fails once and for
//! ever, and every kind of file decays. What is found afterwards is always the state after whole batches without a gap,
//! and includes everything that was acknowledged as synced.

mod allocation;
mod battery;
mod checkpoints;
mod corruption;
mod engine;
mod lessons;
mod model;
mod power_cuts;
mod refusals;
mod rules;
mod store_face;
mod trace;
