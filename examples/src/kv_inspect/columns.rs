//! Rows of text, aligned.

use std::fmt;

/// Where a column's text stands.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) struct Columns {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Headings that begin with `>` stand over columns that are aligned to the right.
    pub(super) fn new(headings: &[&str]) -> Self {
        let align = |heading: &&str| if heading.starts_with('>') { Align::Right } else { Align::Left };
        let row = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Self { aligns: headings.iter().map(align).collect(), rows: vec![row] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(cells.len(), self.aligns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.aligns).map(|((cell, &width), align)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new(&["name", ">size"]);
        columns.row(["users".to_owned(), "7".to_owned()]);
        columns.row(["x".to_owned(), "1,000".to_owned()]);
        assert_eq!(columns.to_string(), "name    size\nusers      7\nx      1,000\n");
    }
}
