//! What fuzzers call: any bytes go in, and a broken rule panics.
//!
//! Bytes that were not written by a node give an error or a value, never a panic, and a value reads the same when it is
//! written again.

use crate::{
    change::Change,
    delta::LayoutDelta,
    layout::Layout,
    node::{Weight, Zone},
    placement::Stage,
    topology::Topology,
};
use kv_core::NodeId;

/// A layout. One that can be read can be reported on, and a node can be added to it.
pub fn layout(bytes: &[u8]) {
    let Ok(layout) = Layout::decode(bytes) else { return };
    assert_eq!(layout.encode(), bytes, "one layout, one encoding");
    for class in layout.classes() {
        assert!(layout.report_of(class).is_some());
    }
    let Ok(plan) = layout.plan(&Change::new().add(NodeId(u64::MAX), Weight(1), Zone::default())) else { return };
    assert_eq!(Layout::decode(&plan.next().encode()).as_ref(), Ok(plan.next()), "what is planned can be written");
}

/// A delta from a layout of five nodes, [`base`].
pub fn layout_delta(bytes: &[u8]) {
    let Ok(delta) = LayoutDelta::decode(bytes) else { return };
    assert_eq!(delta.encode(), bytes, "one delta, one encoding");
    if let Ok(layout) = base().apply(&delta) {
        assert_eq!(layout.epoch(), delta.next(), "a delta leads where it says");
        assert_eq!(Layout::decode(&layout.encode()), Ok(layout), "and to what can be written");
    }
}

/// A topology.
pub fn topology(bytes: &[u8]) {
    let Ok(topology) = Topology::decode(bytes) else { return };
    assert_eq!(topology.encode(), bytes, "one topology, one encoding");
    for (class, partition) in topology.moving() {
        let placement = topology.placement_in(class, partition);
        assert!(placement.writers().any(|node| placement.is_complete(node)), "somebody has the data");
    }
    // Given up or carried out, with all partitions where they are or as far as they can go.
    for aborting in [topology.is_aborting(), !topology.is_aborting()] {
        let mut topology = topology.clone();
        if aborting != topology.is_aborting() {
            let _ = if aborting { topology.abort() } else { topology.resume() };
        }
        for stage in [Stage::Reverting, Stage::Stable, Stage::Cleanup, Stage::Done] {
            let moving: Vec<_> = topology.moving().collect();
            for partition in moving {
                let _ = topology.advance(&[partition], stage);
            }
        }
        if topology.settle().is_ok() {
            let layout = topology.layout();
            assert_eq!(Layout::decode(&layout.encode()).as_ref(), Ok(layout), "a layout that settled can be written");
        }
    }
}

/// The layout that fuzzed deltas start from.
///
/// # Panics
/// Never: five nodes have a layout.
#[must_use]
pub fn base() -> Layout {
    (1..=5)
        .fold(Layout::builder(3).partitions(8), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
        .build()
        .expect("five nodes have a layout")
}
