//! Benches of the workspace: `cargo bench --bench NAME` from its root. The library itself is empty; each bench stands alone
//! under `benches/`.
