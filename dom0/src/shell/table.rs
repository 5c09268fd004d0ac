//! Tables for people: columns as wide as their widest cell.

use alloc::{string::String, vec::Vec};
use core::fmt::Write;

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names and words.
    Left,
    /// Numbers.
    Right,
}

/// A heading line and rows of cells.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    headings: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with these columns and no rows.
    pub fn new(headings: [(&'static str, Align); COLUMNS]) -> Table<COLUMNS> {
        Table { headings, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// The lines, each with its newline and without spaces at its end.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.render_row(&self.headings.map(|(heading, _)| heading), &mut text);
        for row in &self.rows {
            self.render_row(&row.each_ref().map(String::as_str), &mut text);
        }
        text
    }

    fn render_row(&self, cells: &[&str; COLUMNS], text: &mut String) {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(self.widths()).zip(&self.headings) {
            let gap = if line.is_empty() { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = match align {
                Align::Left => write!(line, "{gap}{cell:<width$}"),
                Align::Right => write!(line, "{gap}{cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    fn widths(&self) -> [usize; COLUMNS] {
        let mut widths = self.headings.map(|(heading, _)| heading.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_fit_their_widest_cell() {
        let mut table = Table::new([("Name", Align::Left), ("ID", Align::Right)]);
        table.add(["dom0".into(), "0".into()]);
        table.add(["a-long-name".into(), "12345".into()]);
        assert_eq!(
            table.render(),
            "Name            ID\n\
             dom0             0\n\
             a-long-name  12345\n"
        );
    }

    #[test]
    fn lines_have_no_spaces_at_their_end() {
        let mut table = Table::new([("A", Align::Left), ("B", Align::Left)]);
        table.add(["x".into(), "".into()]);
        assert_eq!(table.render(), "A  B\nx\n");
    }

    proptest! {
        #[test]
        fn right_aligned_columns_end_together(
            rows in prop::collection::vec(("[a-z]{1,12}", "[0-9]{1,8}"), 1..8),
        ) {
            let mut table = Table::new([("N", Align::Left), ("V", Align::Right)]);
            for (name, value) in rows {
                table.add([name, value]);
            }
            let text = table.render();
            let lengths: Vec<usize> = text.lines().map(str::len).collect();
            prop_assert!(lengths.iter().all(|&length| length == lengths[0]), "{text}");
        }
    }
}
