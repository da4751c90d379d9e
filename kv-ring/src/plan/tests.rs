use super::*;
use crate::{
    builder::LayoutError,
    class::{PlacementClass, ZoneRule},
};

const ZONES: [&str; 3] = ["a", "b", "c"];

fn zone(id: u64) -> Zone {
    Zone::new(ZONES[usize::try_from(id % 3).unwrap()])
}

/// Nodes 1 to `nodes` of weight 1, three replicas in three zones.
fn cluster(nodes: u64) -> Layout {
    (1..=nodes)
        .fold(Layout::builder(3).partitions(512), |builder, id| builder.node(NodeId(id), Weight(1), zone(id)))
        .build()
        .unwrap()
}

/// Everything that a plan says about its moves, checked against its two layouts.
fn assert_sound(plan: &Plan) {
    let mut moves = plan.moves().iter().peekable();
    for (class, assignment) in plan.base().classes().zip(plan.base().assignments()) {
        for (partition, old) in assignment.rows() {
            let new = plan.next().assignment(class).unwrap().replicas(partition);
            let mut leavers: Vec<NodeId> = old.iter().copied().filter(|node| !new.contains(node)).collect();
            for &target in new.iter().filter(|node| !old.contains(node)) {
                let step = moves.next().expect("a move for each new replica");
                assert_eq!((step.class, step.partition, step.target), (class, partition, target));
                assert!(old.contains(&step.source), "data come from who has them");
                match step.replaces {
                    Some(node) => {
                        let place = leavers.iter().position(|&leaver| leaver == node);
                        leavers.remove(place.expect("each leaver is replaced once"));
                    }
                    None => assert!(leavers.is_empty(), "a place that is given up is taken first"),
                }
            }
        }
    }
    assert_eq!(moves.next(), None);
    assert!(plan.moves_min() <= plan.moves().len() as u64);
    for load in plan.loads() {
        let count = |of: fn(&Move) -> NodeId| plan.moves().iter().filter(|step| of(step) == load.node).count();
        assert_eq!(count(|step| step.target), load.received as usize);
        assert_eq!(count(|step| step.source), load.sent as usize);
        let held = |layout: &Layout| {
            let rows = layout.assignments().iter().flat_map(Assignment::rows);
            rows.filter(|(_, row)| row.contains(&load.node)).count()
        };
        assert_eq!(held(plan.base()), load.slots_before as usize);
        assert_eq!(held(plan.next()), load.slots_after as usize);
    }
    for report in plan.next().classes().map(|class| plan.next().report_of(class).unwrap()) {
        assert_eq!(report.excess(), 0.0, "{report}");
    }
}

fn planned(layout: &Layout, change: &Change) -> Plan {
    let plan = layout.plan(change).unwrap();
    assert_sound(&plan);
    assert_eq!(plan.next().epoch(), layout.epoch().next());
    plan
}

fn load(plan: &Plan, node: u64) -> &LoadChange {
    plan.loads().iter().find(|load| load.node == NodeId(node)).unwrap()
}

#[test]
fn a_node_that_is_added_gets_its_share_and_no_other_replica_moves() {
    let plan = planned(&cluster(9), &Change::new().add(NodeId(10), Weight(1), zone(0)));
    assert!(plan.moves().iter().all(|step| step.target == NodeId(10)));
    assert_eq!(plan.moves().len(), load(&plan, 10).slots_after as usize);
    assert_eq!((load(&plan, 10).weight_before, load(&plan, 10).weight_after), (None, Some(Weight(1))));
}

#[test]
fn what_is_copied_comes_from_many_nodes() {
    let plan = planned(&cluster(9), &Change::new().add(NodeId(10), Weight(1), zone(0)));
    let most = plan.loads().iter().map(|load| load.sent).max().unwrap() as usize;
    assert!(most <= plan.moves().len() / 9 + 1, "{most} of {} from one node", plan.moves().len());
}

#[test]
fn a_node_that_is_removed_sends_nothing_and_one_that_is_drained_may() {
    for change in [Change::new().remove(NodeId(4)), Change::new().drain(NodeId(4))] {
        let plan = planned(&cluster(9), &change);
        assert_eq!(plan.moves().len() as u64, plan.moves_min());
        assert!(plan.moves().iter().all(|step| step.replaces == Some(NodeId(4))));
        assert_eq!(load(&plan, 4).slots_after, 0);
        let leaves = plan.next().member(NodeId(4)).is_none();
        assert_eq!(load(&plan, 4).sent == 0, leaves, "a node that leaves may be dead already");
    }
}

#[test]
fn a_weight_moves_the_difference() {
    let plan = planned(&cluster(9), &Change::new().reweight(NodeId(4), Weight(2)));
    assert!(plan.moves().iter().all(|step| step.target == NodeId(4)));
    assert_eq!(load(&plan, 4).weight_after, Some(Weight(2)));
}

#[test]
fn a_node_that_is_replaced_hands_all_it_has_to_its_successor() {
    let layout = cluster(9);
    let plan = planned(&layout, &Change::new().replace(NodeId(1), NodeId(77)));
    assert_eq!(plan.moves().len(), layout.load_of(NodeId(1)).unwrap().slots as usize);
    for step in plan.moves() {
        assert_eq!((step.target, step.replaces), (NodeId(77), Some(NodeId(1))));
    }
    assert_eq!(plan.next().member(NodeId(77)).unwrap().zone, zone(1));
    // And its successor's successor.
    let twice = planned(&layout, &Change::new().replace(NodeId(1), NodeId(77)).replace(NodeId(77), NodeId(78)));
    assert!(twice.moves().iter().all(|step| (step.target, step.replaces) == (NodeId(78), Some(NodeId(1)))));
    assert_eq!(twice.moves().len(), plan.moves().len());
}

#[test]
fn a_member_that_takes_anothers_place_keeps_its_own_replicas() {
    let layout = cluster(9);
    let plan = planned(&layout, &Change::new().remove(NodeId(4)).replace(NodeId(1), NodeId(4)));
    assert_eq!(plan.next().nodes().len(), 8);
    assert!(load(&plan, 4).slots_before > 0 && load(&plan, 4).received < load(&plan, 4).slots_after);
}

#[test]
fn a_successor_that_leaves_again_has_taken_nobodys_place() {
    let layout = cluster(9);
    // Both name node 77 in the end; it must not stand twice in the rows that nodes 1 and 4 share.
    let change = Change::new().replace(NodeId(1), NodeId(77)).remove(NodeId(77)).replace(NodeId(4), NodeId(77));
    let plan = planned(&layout, &change);
    assert_eq!(plan.next().nodes().len(), 8);
    assert_eq!(Layout::decode(&plan.next().encode()).as_ref(), Ok(plan.next()));
    let fours = layout.partitions_of(NodeId(4)).count();
    let handed_over = plan.moves().iter().filter(|step| step.replaces == Some(NodeId(4))).count();
    assert_eq!(handed_over, fours);
    assert!(layout.partitions_of(NodeId(4)).all(|id| plan.next().replicas(id).contains(&NodeId(77))));
}

#[test]
fn who_stays_keeps_its_place_and_newcomers_take_those_of_leavers() {
    let layout = cluster(9);
    let plan = planned(&layout, &Change::new().replace(NodeId(1), NodeId(77)));
    for (id, row) in layout.assignments()[0].rows() {
        let wanted: Vec<NodeId> = row.iter().map(|&node| if node == NodeId(1) { NodeId(77) } else { node }).collect();
        assert_eq!(plan.next().replicas(id), wanted, "{id}");
    }
    // A place that nobody takes closes, and one that is new comes last.
    let [two, five] = [2, 5].map(PlacementClass::replicas);
    let fewer = planned(&layout, &Change::new().set_class(ClassId::FIRST, two));
    let kept = |now: &Layout, id| -> Vec<NodeId> {
        let row = now.replicas(id);
        row[1..].iter().copied().filter(|node| layout.replicas(id).contains(node)).collect()
    };
    for (id, row) in layout.assignments()[0].rows() {
        // But for the first, which is handed over where primaries would not be even.
        let in_order = |places: &[NodeId]| row.iter().copied().filter(|node| places.contains(node)).collect::<Vec<_>>();
        assert_eq!(in_order(&kept(fewer.next(), id)), kept(fewer.next(), id), "{id}");
    }
    let more = planned(&layout, &Change::new().set_class(ClassId::FIRST, five));
    for (id, row) in layout.assignments()[0].rows() {
        let in_order = |places: &[NodeId]| row.iter().copied().filter(|node| places.contains(node)).collect::<Vec<_>>();
        assert_eq!(in_order(&kept(more.next(), id)), kept(more.next(), id), "{id}");
    }
}

#[test]
fn only_rows_in_which_something_happened_change() {
    let layout = cluster(9);
    let plan = planned(&layout, &Change::new().add(NodeId(10), Weight(1), zone(0)));
    let changed = layout.partition_ids().filter(|&id| layout.replicas(id) != plan.next().replicas(id)).count();
    // A newcomer takes the place of the leaver; a few primaries are handed over within a row, to be even again.
    let moves = plan.moves().len();
    assert!(changed <= moves + moves / 4, "{changed} rows changed, {moves} replicas moved");
    let primaries = layout.partition_ids().filter(|&id| layout.replicas(id)[0] != plan.next().replicas(id)[0]).count();
    assert!(primaries <= 512 / 10 + 512 / 20, "{primaries} of 512 primaries changed");
}

#[test]
fn another_zone_moves_what_the_zone_rule_asks_for() {
    let plan = planned(&cluster(9), &Change::new().rezone(NodeId(3), Zone::new("b")));
    assert!(!plan.moves().is_empty());
    assert_eq!(load(&plan, 3).zone, Zone::new("b"));
    for (_, row) in plan.next().assignments()[0].rows() {
        let zones: BTreeSet<Zone> = row.iter().map(|&node| plan.next().member(node).unwrap().zone.clone()).collect();
        assert_eq!(zones.len(), 3);
    }
}

#[test]
fn more_replicas_are_added_and_fewer_are_dropped_where_they_are() {
    let layout = cluster(9);
    let five = planned(&layout, &Change::new().set_class(ClassId(0), PlacementClass::replicas(5)));
    assert_eq!(five.moves().len(), 512 * 2);
    assert!(five.moves().iter().all(|step| step.replaces.is_none()));
    let two = planned(&layout, &Change::new().set_class(ClassId(0), PlacementClass::replicas(2)));
    assert_eq!(two.moves().len(), 0);
    assert_eq!(two.next().replication_factor(), 2);
}

#[test]
fn a_class_that_is_added_moves_nothing_and_has_its_own_moves_afterwards() {
    let ignoring = PlacementClass { replicas: 2, zones: ZoneRule::Ignore };
    let plan = planned(&cluster(9), &Change::new().add_class(ignoring));
    assert_eq!(plan.moves().len(), 0);
    let later = planned(plan.next(), &Change::new().add(NodeId(10), Weight(1), zone(0)));
    let of = |class| later.moves().iter().filter(|step| step.class == ClassId(class)).count();
    assert_eq!((of(0) > 0, of(1)), (true, 512 * 2 / 10));
}

#[test]
fn several_changes_at_once_move_less_than_one_after_the_other() {
    let layout = cluster(9);
    let add = |change: Change, id| change.add(NodeId(id), Weight(1), zone(id));
    let at_once = planned(&layout, &add(add(Change::new(), 10), 11).remove(NodeId(2)));
    let first = planned(&layout, &add(Change::new(), 10));
    let second = planned(first.next(), &add(Change::new(), 11));
    let third = planned(second.next(), &Change::new().remove(NodeId(2)));
    let one_by_one = [first, second, third].iter().map(|plan| plan.moves().len()).sum::<usize>();
    assert!(at_once.moves().len() < one_by_one, "{} and {one_by_one}", at_once.moves().len());
}

#[test]
fn an_empty_change_moves_nothing() {
    let layout = cluster(7);
    let plan = planned(&layout, &Change::new());
    assert_eq!(plan.moves(), []);
    assert_eq!(plan.next().assignments(), layout.assignments());
}

#[test]
fn what_cannot_be_planned_is_refused_by_name() {
    let layout = cluster(3);
    let refused = |change: Change| layout.plan(&change).unwrap_err();
    let [known, unknown] = [NodeId(1), NodeId(9)];
    assert_eq!(refused(Change::new().remove(unknown)), ChangeError::UnknownNode(unknown));
    assert_eq!(refused(Change::new().drain(unknown)), ChangeError::UnknownNode(unknown));
    assert_eq!(refused(Change::new().rezone(unknown, zone(1))), ChangeError::UnknownNode(unknown));
    assert_eq!(refused(Change::new().replace(unknown, NodeId(10))), ChangeError::UnknownNode(unknown));
    assert_eq!(refused(Change::new().replace(known, NodeId(2))), ChangeError::AlreadyMember(NodeId(2)));
    assert_eq!(refused(Change::new().add(known, Weight(1), zone(1))), ChangeError::AlreadyMember(known));
    let class = PlacementClass::replicas(1);
    assert_eq!(refused(Change::new().set_class(ClassId(4), class)), ChangeError::UnknownClass(ClassId(4)));
    let too_few = LayoutError::TooFewNodes { replicas: 3, nodes: 2 };
    assert_eq!(refused(Change::new().remove(known)), ChangeError::Layout(too_few));
    let all_drained = (1..=3).fold(Change::new(), |change, id| change.drain(NodeId(id)));
    assert_eq!(refused(all_drained), ChangeError::Layout(LayoutError::NoWeight));
    let reserved = Change::new().add(NodeId(0), Weight(1), zone(1));
    assert_eq!(refused(reserved), ChangeError::Layout(LayoutError::ReservedNode));
}

#[test]
fn a_plan_is_good_for_the_layout_it_was_made_from_alone() {
    let layout = cluster(5);
    let plan = layout.plan(&Change::new().drain(NodeId(1))).unwrap();
    assert_eq!(plan.check(&layout), Ok(()));
    let later = layout.plan(&Change::new()).unwrap().next().clone();
    let stale = plan.check(&later).unwrap_err();
    assert_eq!((stale.planned, stale.found), (Epoch(1), Epoch(2)));
    // Another cluster, or another history, of the same epoch.
    let other = cluster(6);
    assert_eq!(plan.check(&other).unwrap_err().found_hash, other.hash());
}

#[test]
fn a_plan_warns_of_leaving_majorities_small_zones_and_skewed_weights() {
    let layout = cluster(9);
    let plan = planned(&layout, &Change::new().remove(NodeId(1)).remove(NodeId(2)));
    let both = layout.partition_ids().filter(|&partition| {
        let row = layout.replicas(partition);
        row.contains(&NodeId(1)) && row.contains(&NodeId(2))
    });
    let partitions = u32::try_from(both.count()).unwrap();
    assert!(plan.warnings().contains(&PlanWarning::MajorityLeaves { class: ClassId(0), partitions }));
    assert_eq!(planned(&layout, &Change::new().remove(NodeId(1)).add(NodeId(10), Weight(1), zone(1))).warnings(), []);

    let zone_gone = [3, 6, 9].into_iter().fold(Change::new(), |change, id| change.remove(NodeId(id)));
    let shared = Warning::ReplicasShareZones { zones: 2, together: 2 };
    let warnings = planned(&layout, &zone_gone).warnings().to_vec();
    assert_eq!(warnings, [PlanWarning::Layout { class: ClassId(0), warning: shared }]);

    let skewed = planned(&layout, &Change::new().reweight(NodeId(1), Weight(1000)));
    let is_skew = |warning: &PlanWarning| {
        matches!(warning, PlanWarning::Layout { warning: Warning::WeightSkew { ratio: 1000, .. }, .. })
    };
    assert!(skewed.warnings().iter().any(is_skew), "{skewed}");
}

#[test]
fn the_table_reads_well() {
    let names = ["a", "b"];
    let layout = (1..=4)
        .fold(Layout::builder(2).partitions(8), |builder, id: u64| {
            builder.node(NodeId(id), Weight(1), Zone::new(names[usize::try_from(id % 2).unwrap()]))
        })
        .build()
        .unwrap();
    let change = Change::new().replace(NodeId(4), NodeId(10)).drain(NodeId(1));
    let plan = layout.plan(&change).unwrap();
    let printed = plan.clone().sized(|_, partition| u64::from(partition.0 + 1) << 20).to_string();
    let expected = "\
plan e1 -> e2: 8 replicas move, 37 MiB to copy
node     zone              weight             slots  receives     sends                   bytes
n1       b                 1 -> 0            4 -> 0         0         6           18 MiB -> 0 B
n2       a                      1                 4         0         1        17 MiB -> 17 MiB
n3       b                      1            4 -> 8         4         1        18 MiB -> 36 MiB
n4       a                 1 -> -            4 -> 0         0         0           19 MiB -> 0 B
n10      a                 - -> 1            0 -> 4         4         0           0 B -> 19 MiB
warning: class 0: zone a: 8 slots by the zone rule, 10 by weight
warning: class 0: zone b: 8 slots by the zone rule, 5 by weight
warning: class 0: 4 partitions keep no majority of their nodes; those that leave must be up
";
    assert_eq!(printed, expected);
    let listed = format!("{plan:#}");
    assert_eq!(listed.lines().count(), 2 + 5 + 3 + 1 + 8);
    let rows: Vec<&str> = listed.lines().skip(11).take(2).collect();
    assert_eq!(rows, ["class 0   p1         n1       -> n10      n4", "class 0   p1         n1       -> n3       n1"]);
}
