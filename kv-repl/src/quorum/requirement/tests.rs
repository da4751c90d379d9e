use super::*;

/// The meaning of a level, said without demands: whether it is enough that the replicas in `answered`, a bit each, have
/// answered.
fn oracle(consistency: Consistency, own: usize, zones: &[usize], answered: u32) -> bool {
    let count = |zone: Option<usize>, mask: u32| {
        let counted = |(at, of): &(usize, &usize)| zone.is_none_or(|zone| **of == zone) && mask >> at & 1 == 1;
        zones.iter().enumerate().filter(counted).count()
    };
    let got = |zone| count(zone, answered);
    let there = |zone| count(zone, u32::MAX);
    match consistency {
        Consistency::One => got(None) >= 1,
        Consistency::Two => got(None) >= 2,
        Consistency::Three => got(None) >= 3,
        Consistency::Quorum => got(None) * 2 > there(None),
        Consistency::All => got(None) == there(None) && there(None) > 0,
        Consistency::LocalOne => got(Some(own)) >= 1,
        Consistency::LocalQuorum => got(Some(own)) * 2 > there(Some(own)),
        Consistency::EachQuorum => {
            !zones.is_empty() && zones.iter().all(|zone| got(Some(*zone)) * 2 > there(Some(*zone)))
        }
    }
}

const ZONES: usize = 3;

/// Every way to place up to `replicas_max` replicas in three zones.
fn placements(replicas_max: u32) -> impl Iterator<Item = Vec<usize>> {
    (0..=replicas_max).flat_map(|replicas| {
        (0..ZONES.pow(replicas)).map(move |mut code| {
            let mut digit = || {
                let zone = code % ZONES;
                code /= ZONES;
                zone
            };
            (0..replicas).map(|_| digit()).collect()
        })
    })
}

fn requirement(consistency: Consistency, own: usize, zones: &[usize]) -> Result<Requirement, TooFewReplicas> {
    let names = ["a", "b", "c"].map(Zone::new);
    let replicas = zones.iter().enumerate().map(|(at, zone)| (node(at), &names[*zone]));
    Requirement::of(consistency, &names[own], replicas)
}

fn node(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

fn has(mask: u32) -> impl Fn(NodeId) -> bool {
    move |node| mask >> (node.0 - 1) & 1 == 1
}

/// Every level, placement of up to five replicas in three zones, own zone and set of answers.
#[test]
fn levels_are_met_by_what_they_say() {
    let mut cases = 0;
    for zones in placements(5) {
        for own in 0..ZONES {
            for consistency in Consistency::EVERY {
                let everybody = (1_u32 << zones.len()) - 1;
                let enough = |mask| oracle(consistency, own, &zones, mask);
                let Ok(requirement) = requirement(consistency, own, &zones) else {
                    assert!(!enough(everybody), "{consistency} of {zones:?} from {own} is refused and could be met");
                    continue;
                };
                assert!(enough(everybody), "{consistency} of {zones:?} from {own} can never be met");
                for mask in 0..=everybody {
                    cases += 1;
                    let what = || format!("{consistency} of {zones:?} from {own}, answered {mask:b}");
                    assert_eq!(requirement.is_met(has(mask)), enough(mask), "{}", what());
                    let progress = requirement.progress(has(mask));
                    assert_eq!(progress == requirement.required(), enough(mask), "{}", what());
                    // What is still missing is the least number of further answers that is enough.
                    let missing = (0..=everybody).filter(|more| more & mask == mask && enough(*more));
                    let missing = missing.map(|more| (more ^ mask).count_ones() as usize).min();
                    assert_eq!(Some(requirement.required() - progress), missing, "{}", what());
                }
            }
        }
    }
    assert!(cases > 100_000, "{cases}");
}

#[test]
fn as_few_as_possible_are_chosen_and_the_first_ones_first() {
    for zones in placements(5) {
        for own in 0..ZONES {
            for consistency in Consistency::EVERY {
                let Ok(requirement) = requirement(consistency, own, &zones) else { continue };
                let forth: Vec<NodeId> = (0..zones.len()).map(node).collect();
                let back: Vec<NodeId> = forth.iter().rev().copied().collect();
                for order in [forth, back] {
                    let chosen = requirement.choose(&order);
                    assert_eq!(chosen.len(), requirement.required());
                    assert!(requirement.is_met(|node| chosen.contains(&node)));
                    for (at, without) in chosen.iter().enumerate() {
                        assert!(!requirement.is_met(|node| node != *without && chosen.contains(&node)));
                        // Nobody who was passed over could have stood in for one who was chosen.
                        let place = order.iter().position(|node| node == without).expect("it was chosen from there");
                        let earlier = order[..place].iter().filter(|node| !chosen.contains(node));
                        for instead in earlier {
                            let swapped = |node| node == *instead || (node != chosen[at] && chosen.contains(&node));
                            assert!(!requirement.is_met(swapped), "{consistency} of {zones:?}: {chosen:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_can_never_be_met_is_refused_with_the_numbers() {
    let refused = |consistency, zones: &[usize]| requirement(consistency, 0, zones).expect_err("it cannot be met");
    let error = refused(Consistency::Three, &[0, 1]);
    assert_eq!((error.replicas, error.required), (2, 3));
    assert_eq!(error.to_string(), "three needs 3 replicas, and the key has 2 that count");
    let error = refused(Consistency::LocalQuorum, &[1, 1, 2]);
    assert_eq!((error.replicas, error.required), (0, 1));
    assert_eq!(refused(Consistency::EachQuorum, &[]).required, 1);
}

#[test]
fn levels_that_are_quorums_are_more_than_half() {
    for zones in placements(5).filter(|zones| !zones.is_empty()) {
        for consistency in Consistency::EVERY.into_iter().filter(|level| level.is_quorum_of(zones.len())) {
            let Ok(requirement) = requirement(consistency, 0, &zones) else { continue };
            let mut met = (0..1_u32 << zones.len()).filter(|mask| requirement.is_met(has(*mask)));
            assert!(met.all(|mask| mask.count_ones() as usize * 2 > zones.len()), "{consistency} of {zones:?}");
        }
    }
}

/// When a read at one level and a write at another one meet in a replica, whoever answers.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Meet {
    /// Wherever they come from.
    Always,
    /// When they come from one zone.
    InOneZone,
    Never,
}

fn meet(read: Consistency, write: Consistency, replicas: u32) -> Meet {
    let mut by_zone = [true, true];
    for zones in placements(replicas).filter(|zones| zones.len() == replicas as usize) {
        for (reader, writer) in (0..ZONES).flat_map(|reader| (0..ZONES).map(move |writer| (reader, writer))) {
            let sets = |consistency, own| {
                let requirement = requirement(consistency, own, &zones).ok();
                let enough = move |mask: &u32| requirement.as_ref().is_some_and(|of| of.is_met(has(*mask)));
                (0..1_u32 << zones.len()).filter(enough).collect::<Vec<_>>()
            };
            let writes = sets(write, writer);
            let apart = sets(read, reader).iter().any(|read| writes.iter().any(|write| read & write == 0));
            by_zone[usize::from(reader == writer)] &= !apart;
        }
    }
    match by_zone {
        [true, true] => Meet::Always,
        [false, true] => Meet::InOneZone,
        _ => Meet::Never,
    }
}

/// The table in `docs/consistency.md` says which levels meet with three replicas and with five, wherever these lie.
#[test]
fn the_documented_pairs_meet() {
    let document = include_str!("../../../../docs/consistency.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| !line.starts_with("| read \\ write |"))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let level = |name: &str| {
        let name = name.trim_matches('`');
        Consistency::EVERY.into_iter().find(|level| format!("{level:?}") == name).unwrap_or_else(|| panic!("{name}?"))
    };
    assert_eq!(rows.len(), 2 + Consistency::EVERY.len(), "a row for each level");
    for row in &rows[2..] {
        assert_eq!(row.len(), rows[0].len());
        for (cell, column) in row.iter().zip(&rows[0]).skip(1) {
            let (read, write) = (level(row[0]), level(column));
            let word = |replicas| match meet(read, write, replicas) {
                Meet::Always => "yes",
                Meet::InOneZone => "one zone",
                Meet::Never => "no",
            };
            let (three, five) = (word(3), word(5));
            let expected = if three == five { three.to_owned() } else { format!("{three}, {five}") };
            assert_eq!(*cell, expected, "reads at {read} and writes at {write}");
        }
    }
}
