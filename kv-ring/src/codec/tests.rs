use proptest::prelude::*;

use super::*;

fn small() -> Layout {
    Layout::builder(2)
        .partitions(4)
        .node(NodeId(1), Weight(1), Zone::new("a"))
        .node(NodeId(300), Weight(2), Zone::new("b"))
        .node(NodeId(2), Weight(1), Zone::new("a"))
        .build()
        .unwrap()
}

#[test]
fn golden_bytes() {
    let bytes = small().encode();
    let (head, holders) = bytes.split_at(bytes.len() - 8);
    let expected: &[u8] = &[
        1, // version
        1, // epoch
        2, // q
        2, 1, b'a', 1, b'b', // zones
        3, 1, 1, 0, 2, 1, 0, 0xac, 0x02, 2, 1, // members 1, 2 and 300
        1, 2, 0, // one class: two replicas, spread over zones
    ];
    assert_eq!(head, expected);
    assert_eq!(holders, [2, 1, 0, 2, 2, 0, 1, 2]);
    assert_eq!(small().hash(), 0x2303_cd75_81fc_8737);
}

#[test]
fn every_prefix_and_every_longer_run_is_refused() {
    let mut bytes = small().encode();
    for end in 0..bytes.len() {
        assert!(Layout::decode(&bytes[..end]).is_err(), "{end} bytes");
    }
    bytes.push(0);
    assert!(Layout::decode(&bytes).is_err(), "a byte too many");
}

#[test]
fn wrong_content_is_refused_by_name() {
    let good = small().encode();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        match Layout::decode(&bytes) {
            Err(LayoutDecodeError::Malformed(error)) => error.what,
            other => panic!("{other:?}"),
        }
    };
    let last = good.len() - 1;
    assert_eq!(refused(&|bytes| bytes[1] = 0), "an epoch that no cluster has");
    let epoch = |epoch: u64| {
        move |bytes: &mut Vec<u8>| {
            let mut varint = Vec::new();
            put_varint(&mut varint, epoch);
            bytes.splice(1..2, varint);
        }
    };
    assert_eq!(refused(&epoch(u64::MAX)), "an epoch that no cluster has");
    assert_eq!(refused(&epoch(Epoch::RECEIVED_MAX.0 + 1)), "an epoch that no cluster has");
    assert_eq!(refused(&|bytes| bytes[2] = 25), "too many partitions");
    assert_eq!(refused(&|bytes| bytes[2] = 200), "too many partitions");
    assert_eq!(refused(&|bytes| bytes[2] = 24), "more bytes claimed than present");
    assert_eq!(refused(&|bytes| bytes[5] = b'b'), "zones are not in order");
    assert_eq!(refused(&|bytes| bytes[5] = 0xff), "a zone's name is not UTF-8");
    assert_eq!(refused(&|bytes| bytes[9] = 0), "members are not in the order of ids above zero");
    assert_eq!(refused(&|bytes| bytes[12] = 1), "members are not in the order of ids above zero");
    assert_eq!(refused(&|bytes| bytes[11] = 2), "a member in an unknown zone");
    assert_eq!(refused(&|bytes| bytes[18] = 0), "a zone without members");
    assert_eq!(refused(&|bytes| bytes[17] = 0), "a replica on a member without a weight");
    assert_eq!(refused(&|bytes| bytes[19] = 0), "a number of classes that is not allowed");
    assert_eq!(refused(&|bytes| bytes[19] = 17), "a number of classes that is not allowed");
    assert_eq!(refused(&|bytes| bytes[20] = 0), "a replication factor that is not allowed");
    assert_eq!(refused(&|bytes| bytes[20] = 33), "a replication factor that is not allowed");
    assert_eq!(refused(&|bytes| bytes[20] = 4), "fewer members with a weight than replicas");
    assert_eq!(refused(&|bytes| bytes[21] = 3), "an unknown zone rule");
    let twice = |bytes: &mut Vec<u8>| {
        bytes[19] = 2;
        bytes.extend_from_within(20..);
    };
    assert_eq!(refused(&twice), "two classes of one kind");
    assert_eq!(refused(&|bytes| bytes[last] = 3), "a replica on an unknown member");
    assert_eq!(refused(&|bytes| bytes[last] = bytes[last - 1]), "two replicas of a partition on one member");
    assert_eq!(Layout::decode(&[2]), Err(LayoutDecodeError::UnknownVersion { version: 2 }));
}

#[test]
fn claimed_counts_allocate_nothing() {
    let mut bytes = vec![1, 1, 0];
    put_varint(&mut bytes, u64::MAX);
    let error = Layout::decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "not a layout: more items claimed than bytes present at byte 3");
}

#[test]
fn more_than_256_members_take_two_bytes_a_slot() {
    let layout = (1..=257)
        .fold(Layout::builder(3).partitions(256), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
        .build()
        .unwrap();
    let bytes = layout.encode();
    assert!(bytes.len() > 256 * 3 * 2);
    assert_eq!(Layout::decode(&bytes).unwrap(), layout);
}

proptest! {
    #[test]
    fn a_layout_comes_back(
        nodes in prop::collection::btree_map(1..=u64::MAX, (1..9_u32, "[a-c]?"), 3..20),
        drained in prop::collection::btree_set(1..=u64::MAX, 0..4),
        bits in 0..7_u32,
        others in prop::sample::subsequence(vec![(1, ZoneRule::Distinct), (2, ZoneRule::Spread), (3, ZoneRule::Ignore)], 0..=3),
    ) {
        let mut builder = Layout::builder(3).partitions(1 << bits);
        for &(replicas, zones) in &others {
            builder = builder.class(PlacementClass { replicas, zones });
        }
        for (&id, (weight, zone)) in &nodes {
            builder = builder.node(NodeId(id), Weight(*weight), Zone::new(zone));
        }
        for &id in drained.iter().filter(|id| !nodes.contains_key(id)) {
            builder = builder.node(NodeId(id), Weight(0), Zone::new("d"));
        }
        let layout = builder.build().unwrap();
        let decoded = Layout::decode(&layout.encode()).unwrap();
        prop_assert_eq!(decoded.hash(), layout.hash());
        prop_assert_eq!(decoded.assignments().len(), 1 + others.len());
        prop_assert_eq!(decoded, layout);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(layout) = Layout::decode(&bytes) {
            prop_assert_eq!(layout.encode(), bytes, "one layout, one encoding");
        }
    }

    #[test]
    fn damaged_layouts_are_read_or_refused(damage in prop::collection::vec((0..64_usize, any::<u8>()), 1..4)) {
        let mut bytes = small().encode();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(layout) = Layout::decode(&bytes) {
            prop_assert_eq!(layout.encode(), bytes, "one layout, one encoding");
            prop_assert_eq!(layout.report().loads.len(), layout.nodes().len());
        }
    }
}
