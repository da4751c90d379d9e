//! Schedules that break an engine without a rule, each a test with a name. Random ones are `battery`.

mod checkpoints;
mod corruption;
mod lessons;
mod power_cuts;
mod refusals;
mod rules;
mod store_face;

/// How much more than usual is tried: `KV_BATTERY=20 cargo test -p kv-lsm --release --test crash` for a night's run.
fn effort() -> u64 {
    std::env::var("KV_BATTERY").ok().and_then(|effort| effort.parse().ok()).unwrap_or(1)
}
