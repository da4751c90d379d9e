//! A plan to be read by people.

use std::fmt;

use super::{LoadChange, Move, Plan, PlanWarning};
use crate::node::Weight;

/// Bytes in the largest unit of which there are at least ten.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let unit = (0..units.len()).rev().find(|&unit| unit == 0 || self.0 >> (10 * unit) >= 10).unwrap_or(0);
        f.pad(&format!("{} {}", self.0 >> (10 * unit), units[unit]))
    }
}

fn weight(weight: Option<Weight>) -> String {
    weight.map_or_else(|| "-".to_owned(), |weight| weight.0.to_string())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan {} -> {}: {} replicas move", self.base.epoch(), self.next.epoch(), self.moves.len())?;
        if self.moves_min < self.moves.len() as u64 {
            write!(f, " (the loads alone ask for {})", self.moves_min)?;
        }
        match self.bytes() {
            Some(bytes) => writeln!(f, ", {} to copy", Bytes(bytes))?,
            None => writeln!(f)?,
        }
        let sized = self.loads.iter().any(|load| load.bytes_after.is_some());
        write!(f, "{:<8} {:<12} {:>11} {:>17} {:>9} {:>9}", "node", "zone", "weight", "slots", "receives", "sends")?;
        writeln!(f, "{}", if sized { format!(" {:>23}", "bytes") } else { String::new() })?;
        for load in &self.loads {
            let LoadChange { node, zone, slots_before, slots_after, received, sent, .. } = load;
            let node = node.to_string();
            let weights = match (load.weight_before, load.weight_after) {
                (before, after) if before == after => weight(after),
                (before, after) => format!("{} -> {}", weight(before), weight(after)),
            };
            let slots = if slots_before == slots_after {
                slots_after.to_string()
            } else {
                format!("{slots_before} -> {slots_after}")
            };
            write!(f, "{node:<8} {zone:<12} {weights:>11} {slots:>17} {received:>9} {sent:>9}")?;
            if let (Some(before), Some(after)) = (load.bytes_before, load.bytes_after) {
                write!(f, " {:>23}", format!("{} -> {}", Bytes(before), Bytes(after)))?;
            }
            writeln!(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if f.alternate() {
            let [class, partition, source, target, replaces] = ["class", "partition", "source", "target", "replaces"];
            writeln!(f, "{class:<9} {partition:<10} {source:<8}    {target:<8} {replaces}")?;
            for step in &self.moves {
                writeln!(f, "{step}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, partition, source, target, replaces, bytes } = self;
        let [class, partition, source, target] =
            [class.to_string(), partition.to_string(), source.to_string(), target.to_string()];
        let replaces = replaces.map_or_else(|| "-".to_owned(), |node| node.to_string());
        write!(f, "{class:<9} {partition:<10} {source:<8} -> {target:<8} ")?;
        match bytes {
            Some(bytes) => write!(f, "{replaces:<8} {:>10}", Bytes(*bytes)),
            None => write!(f, "{replaces}"),
        }
    }
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout { class, warning } => write!(f, "{class}: {warning}"),
            Self::MajorityLeaves { class, partitions } => {
                write!(
                    f,
                    "{class}: {partitions} partitions keep no majority of their nodes; those that leave must be up"
                )
            }
        }
    }
}
