//! Replays the corpus of the fuzzers, and every near miss of it. With `KV_RING_WRITE_CORPUS` set, writes the corpus first.

use std::fs;
use std::path::{Path, PathBuf};

use kv_ring::{Change, ClassId, NodeId, PlacementClass, Stage, Topology, Weight, Zone, ZoneRule, fuzzing};

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn replay(target: &str, examples: &[(&str, Vec<u8>)], body: fn(&[u8])) {
    if std::env::var_os("KV_RING_WRITE_CORPUS").is_some() {
        fs::create_dir_all(directory(target)).unwrap();
        for (name, bytes) in examples {
            fs::write(directory(target).join(name), bytes).unwrap();
        }
    }
    for (name, bytes) in examples {
        let kept = fs::read(directory(target).join(name)).unwrap();
        assert_eq!(&kept, bytes, "{target}/{name} is not what is written today");
    }
    let mut inputs = 0;
    for entry in fs::read_dir(directory(target)).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        inputs += 1;
        body(&bytes);
        for at in 0..bytes.len() {
            body(&bytes[..at]);
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = value;
                body(&changed);
            }
        }
    }
    assert!(inputs >= examples.len());
}

fn change() -> Change {
    Change::new().replace(NodeId(5), NodeId(300)).rezone(NodeId(2), Zone::new("b")).reweight(NodeId(1), Weight(2))
}

#[test]
fn layouts() {
    let base = fuzzing::base();
    let classes = Change::new().add_class(PlacementClass { replicas: 1, zones: ZoneRule::Ignore });
    let classes = base.plan(&change()).unwrap().next().plan(&classes).unwrap().next().encode();
    replay(
        "layout",
        &[("five_nodes", base.encode()), ("two_classes", classes), ("empty", Vec::new())],
        fuzzing::layout,
    );
}

#[test]
fn layout_deltas() {
    let base = fuzzing::base();
    let to = |change: &Change| base.delta_to(base.plan(change).unwrap().next()).unwrap().encode();
    let wider = Change::new().set_class(ClassId(0), PlacementClass::replicas(4));
    let examples = [("members", to(&change())), ("replicas", to(&wider)), ("nothing", to(&Change::new()))];
    replay("layout_delta", &examples, fuzzing::layout_delta);
}

#[test]
fn topologies() {
    let settled = Topology::new(fuzzing::base());
    let mut moving = settled.clone();
    moving.begin(&settled.layout().plan(&change()).unwrap()).unwrap();
    let partitions: Vec<_> = moving.moving().collect();
    moving.advance(&partitions[1..], Stage::Joint).unwrap();
    let mut aborting = moving.clone();
    aborting.abort().unwrap();
    aborting.advance(&partitions[2..], Stage::Reverting).unwrap();
    let examples = [("settled", settled), ("moving", moving), ("aborting", aborting)];
    replay("topology", &examples.map(|(name, topology)| (name, topology.encode())), fuzzing::topology);
}
