//! How many replica slots each node should hold: water filling by weight, under zone caps.
//!
//! 1. The zone rule. Let a zone offer at most as many replicas of one partition as it has nodes. `level` is the smallest
//!    number for which zones that offer no more than `level` each can still hold all replicas of a partition. Then
//!    every partition has, in each zone, at least `min(nodes, level - 1)` and at most `min(nodes, level)` replicas. With
//!    enough zones the level is 1, and that says "distinct zones"; with fewer it says "as evenly as can be".
//! 2. Water is poured over all nodes in proportion to weight. A node is full when it holds one replica of every partition; a
//!    zone stops at its most, and is topped up to its least, whatever its weight.
//! 3. Levels are rounded to whole slots, first of zones, then of the nodes in each: so every node ends within one slot of its
//!    level. Up go those that hold more than the whole part already, so that rounding moves nothing by itself; then those
//!    of the largest remainders.
//!
//! An assignment that meets such targets and the zone rule always exists: `target / partitions` of every node in every
//! partition is a fractional one, and the constraints are laminar (node inside zone inside partition), for which flows
//! can be made whole (Ford and Fulkerson, *Flows in Networks*, 1962).
//!
//! Everything is computed in integers (fixed point with 64 bits after the point), so that every machine gets the same.

/// What the targets are computed from; index by index, in the order of node ids.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Demand<'a> {
    pub(crate) partitions: u32,
    pub(crate) replicas: usize,
    pub(crate) weights: &'a [u32],
    /// The index of each node's zone; zones are numbered from 0 without gaps.
    pub(crate) zone_of: &'a [usize],
    /// The slots that each node holds now.
    pub(crate) held: &'a [u32],
}

/// What a zone holds of every partition, and altogether.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct ZoneTarget {
    pub(crate) per_partition_min: usize,
    pub(crate) per_partition_max: usize,
    pub(crate) slots: u64,
}

/// The slots of every node and every zone. Their sums are `partitions × replicas`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Targets {
    pub(crate) nodes: Vec<u32>,
    pub(crate) zones: Vec<ZoneTarget>,
}

impl Targets {
    /// # Panics
    /// When fewer nodes than replicas have a weight: the caller has refused that.
    pub(crate) fn of(demand: Demand<'_>) -> Self {
        let mut weights_by_zone = vec![Vec::new(); demand.zone_of.iter().max().map_or(0, |last| last + 1)];
        let mut held_by_zone = vec![Vec::new(); weights_by_zone.len()];
        for ((&weight, &held), &zone) in demand.weights.iter().zip(demand.held).zip(demand.zone_of) {
            weights_by_zone[zone].push(weight);
            held_by_zone[zone].push(u64::from(held));
        }
        let bounds = zone_bounds(&weights_by_zone, demand.replicas);

        let full = fixed(demand.partitions.into());
        let filled = |level: u128, zone: usize| {
            let (least, most) = bounds[zone];
            let nodes = weights_by_zone[zone].iter().map(|&weight| poured(level, weight, full)).sum::<u128>();
            nodes.clamp(full * least as u128, full * most as u128)
        };
        let zones = 0..weights_by_zone.len();
        let total = u64::from(demand.partitions) * demand.replicas as u64;
        let level = water_level(fixed(total), full, |level| zones.clone().map(|zone| filled(level, zone)).sum());
        let zone_levels: Vec<u128> = zones.clone().map(|zone| filled(level, zone)).collect();
        let zone_held: Vec<u64> = held_by_zone.iter().map(|held| held.iter().sum()).collect();
        let most = |zone: usize| u64::from(demand.partitions) * bounds[zone].1 as u64;
        let zone_slots = whole(&zone_levels, total, most, &zone_held);

        let mut nodes = vec![0; demand.weights.len()];
        for zone in zones.clone() {
            let weights = &weights_by_zone[zone];
            let poured_into = |level| weights.iter().map(|&weight| poured(level, weight, full)).sum();
            let level = water_level(zone_levels[zone], full, poured_into);
            let levels: Vec<u128> = weights.iter().map(|&weight| poured(level, weight, full)).collect();
            let most = |node: usize| if weights[node] == 0 { 0 } else { demand.partitions.into() };
            let indexes = demand.zone_of.iter().enumerate().filter(|&(_, &of)| of == zone).map(|(index, _)| index);
            for (index, slots) in indexes.zip(whole(&levels, zone_slots[zone], most, &held_by_zone[zone])) {
                nodes[index] = u32::try_from(slots).expect("no node holds more than all partitions");
            }
        }
        let zones = zones
            .map(|zone| ZoneTarget {
                per_partition_min: bounds[zone].0,
                per_partition_max: bounds[zone].1,
                slots: zone_slots[zone],
            })
            .collect();
        Self { nodes, zones }
    }
}

/// Least and most replicas of one partition per zone.
fn zone_bounds(weights_by_zone: &[Vec<u32>], replicas: usize) -> Vec<(usize, usize)> {
    let nodes: Vec<usize> =
        weights_by_zone.iter().map(|weights| weights.iter().filter(|&&weight| weight > 0).count()).collect();
    assert!(nodes.iter().sum::<usize>() >= replicas, "fewer nodes with a weight than replicas");
    let level = (1..=replicas)
        .find(|&level| nodes.iter().map(|&count| count.min(level)).sum::<usize>() >= replicas)
        .expect("zones that offer as much as they have hold all replicas");
    nodes.iter().map(|&count| (count.min(level - 1), count.min(level))).collect()
}

const FRACTION_BITS: u32 = 64;

fn fixed(slots: u64) -> u128 {
    u128::from(slots) << FRACTION_BITS
}

/// What a node of this weight holds when the water stands at `level` (slots per unit of weight). No overflow: a level is at
/// most 2^(24+64), a weight less than 2^32.
fn poured(level: u128, weight: u32, full: u128) -> u128 {
    (level * u128::from(weight)).min(full)
}

/// The highest level, up to `highest`, at which no more than `total` is in; `filled` does not fall as the level rises.
fn water_level(total: u128, highest: u128, filled: impl Fn(u128) -> u128) -> u128 {
    let (mut low, mut high) = (0, highest);
    while low < high {
        let middle = high - (high - low) / 2;
        if filled(middle) <= total {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Rounds every level down or up so that the sum is `total`; up where more is held than the whole part, then where the fraction
/// is largest, and in order among equals.
fn whole(levels: &[u128], total: u64, most: impl Fn(usize) -> u64, held: &[u64]) -> Vec<u64> {
    let mut slots: Vec<u64> = levels
        .iter()
        .map(|level| u64::try_from(level >> FRACTION_BITS).expect("fewer than 2^64 slots in all"))
        .collect();
    let missing = total - slots.iter().sum::<u64>();
    let mut upwards: Vec<usize> = (0..levels.len()).filter(|&index| slots[index] < most(index)).collect();
    upwards.sort_by_key(|&index| {
        let fraction = levels[index] & ((1 << FRACTION_BITS) - 1);
        // A level that is whole but for the last bits of its fixed point is that whole number, whatever is held.
        let favoured = if fraction > (1 << FRACTION_BITS) - WHOLE {
            2
        } else {
            u8::from(held[index] > slots[index] && fraction >= WHOLE)
        };
        std::cmp::Reverse((favoured, fraction))
    });
    let raised = usize::try_from(missing).expect("less than one slot of each level is a fraction");
    assert!(raised <= upwards.len(), "rounding up once is enough, since each level lost less than one slot");
    for &index in &upwards[..raised] {
        slots[index] += 1;
    }
    slots
}

/// Fractions this close to 0 or 1 come from the fixed point: small enough that as many of them as there can be members do
/// not add up to a slot, and larger than the error of a level, which is that of one weight in the last bit.
const WHOLE: u128 = 1 << (FRACTION_BITS - 17);

#[cfg(test)]
mod tests;
