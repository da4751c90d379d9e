//! Medians over rounds, and who may be compared with whom.

use crate::engine::Name;
use crate::row::{Line, Row};
use crate::workload::{Action, WORKLOADS, Workload};

/// Why a result is not compared with others.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Refusal {
    /// After a kill, writes were gone that had returned: the engine promises less for its speed.
    WeakerPromise,
    /// The background had not come to rest, or a long run not to a steady state.
    Debt,
}

impl Refusal {
    pub(crate) const fn mark(self) -> char {
        match self {
            Self::WeakerPromise => 'k',
            Self::Debt => 'd',
        }
    }
}

/// The mark of a result that the clock has ended.
pub(crate) const CUT: char = 't';

/// A value in all rounds.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, low, high })
    }

    /// The larger distance from the median, in percent of it.
    pub(crate) fn percent(self) -> f64 {
        (self.high - self.median).max(self.median - self.low) / self.median * 100.0
    }
}

/// One engine in one workload.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) engine: Name,
    pub(crate) rows: Vec<Row>,
    pub(crate) refusal: Option<Refusal>,
}

impl Cell {
    pub(crate) fn spread(&self, value: impl Fn(&Row) -> f64) -> Spread {
        Spread::of(self.rows.iter().map(value).collect()).expect("a cell has at least one row")
    }

    pub(crate) fn median(&self, value: impl Fn(&Row) -> f64) -> f64 {
        self.spread(value).median
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.rows.iter().any(|row| row.cut)
    }
}

/// A workload with all engines that have run it.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) name: String,
    action: Action,
    pub(crate) cells: Vec<Cell>,
}

/// How far this project's engine is from the best of the others.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) rival: Name,
    /// Above one it is better.
    pub(crate) times: f64,
}

impl Comparison {
    /// Whether less is better: where the time of one operation is what counts.
    pub(crate) const fn is_in_seconds(&self) -> bool {
        matches!(self.action, Action::Reopen)
    }

    /// What is compared: more is better.
    pub(crate) fn speed(cell: &Cell) -> f64 {
        cell.median(Row::per_second)
    }

    /// The same with the time that the background needed to catch up.
    fn speed_with_debt(cell: &Cell) -> f64 {
        cell.median(Row::per_second_with_debt)
    }

    pub(crate) fn cell(&self, engine: Name) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.engine == engine)
    }

    pub(crate) fn best_rival(&self) -> Option<&Cell> {
        self.best_rival_in(Self::speed)
    }

    fn best_rival_in(&self, speed: fn(&Cell) -> f64) -> Option<&Cell> {
        let rivals = self.cells.iter().filter(|cell| cell.engine != Name::KvLsm && cell.refusal.is_none());
        rivals.max_by(|one, other| speed(one).total_cmp(&speed(other)))
    }

    /// `None` when either side is missing, or not to be compared.
    pub(crate) fn ratio(&self) -> Option<Ratio> {
        self.ratio_in(Self::speed)
    }

    /// The same with the time that the background needed; `None` also where it has nothing to do.
    pub(crate) fn ratio_with_debt(&self) -> Option<Ratio> {
        let has_debt = self.cells.iter().all(|cell| cell.rows.iter().all(|row| row.settle_seconds.is_some()));
        if has_debt { self.ratio_in(Self::speed_with_debt) } else { None }
    }

    fn ratio_in(&self, speed: fn(&Cell) -> f64) -> Option<Ratio> {
        let own = self.cell(Name::KvLsm).filter(|cell| cell.refusal.is_none())?;
        let rival = self.best_rival_in(speed)?;
        Some(Ratio { rival: rival.engine, times: speed(own) / speed(rival) })
    }
}

/// Everything that is known of a run.
pub(crate) struct Summary {
    pub(crate) engines: Vec<Name>,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Summary {
    pub(crate) fn of(lines: &[Line]) -> Self {
        let rows: Vec<&Row> =
            lines.iter().filter_map(|line| if let Line::Row(row) = line { Some(&**row) } else { None }).collect();
        let engines = Name::ALL.into_iter().filter(|engine| rows.iter().any(|row| row.engine == *engine)).collect();
        let weaker = |engine: Name| {
            lines
                .iter()
                .any(|line| matches!(line, Line::Kill { engine: killed, lost, .. } if *killed == engine && *lost > 0))
        };
        let mut comparisons = Vec::new();
        for workload in WORKLOADS {
            for name in [workload.name.to_owned(), format!("{}-writer", workload.name)] {
                let cells = Name::ALL.into_iter().filter_map(|engine| {
                    let of = |row: &&&Row| row.engine == engine && row.workload == name;
                    let rows: Vec<Row> = rows.iter().filter(of).map(|row| (*row).clone()).collect();
                    let refusal = refusal(workload, &rows, weaker(engine));
                    (!rows.is_empty()).then_some(Cell { engine, rows, refusal })
                });
                let cells: Vec<_> = cells.collect();
                if !cells.is_empty() {
                    comparisons.push(Comparison { name, action: workload.action, cells });
                }
            }
        }
        Self { engines, comparisons }
    }
}

fn refusal(workload: &Workload, rows: &[Row], weaker: bool) -> Option<Refusal> {
    if weaker && workload.action.relies_on_buffered_writes() || rows.iter().any(|row| row.lost > 0) {
        Some(Refusal::WeakerPromise)
    } else if rows.iter().any(|row| !row.settled) {
        Some(Refusal::Debt)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
