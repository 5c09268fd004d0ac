//! What commands show, as text for people and as JSON for programs.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use serde_json::{Map, Value};

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names and words.
    Left,
    /// Numbers.
    Right,
}

/// What a command shows.
pub trait Show {
    /// As text, lines with their newlines.
    fn text(&self) -> String;
    /// The same for programs.
    fn json(&self) -> Value;
}

/// A heading line and rows of cells, in columns as wide as their widest cell. In JSON, a list of
/// objects.
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

impl<const COLUMNS: usize> Show for Table<COLUMNS> {
    fn text(&self) -> String {
        let mut text = String::new();
        self.render_row(&self.headings.map(|(heading, _)| heading), &mut text);
        for row in &self.rows {
            self.render_row(&row.each_ref().map(String::as_str), &mut text);
        }
        text
    }

    fn json(&self) -> Value {
        let row = |cells: &[String; COLUMNS]| {
            let headings = self.headings.iter().map(|(heading, _)| *heading);
            object(headings.zip(cells.iter().map(String::as_str)))
        };
        self.rows.iter().map(row).collect()
    }
}

/// Keys and values, one to a line. In JSON, an object.
#[derive(Debug, Default)]
pub struct Record(Vec<(String, String)>);

impl Record {
    /// Adds a line.
    pub fn add(&mut self, key: &str, value: impl ToString) {
        self.0.push((key.to_string(), value.to_string()));
    }
}

impl Show for Record {
    fn text(&self) -> String {
        self.0.iter().map(|(key, value)| format!("{key:<22} : {value}\n")).collect()
    }

    fn json(&self) -> Value {
        object(self.0.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

fn object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(
        pairs.map(|(key, value)| (name(key), number_or_text(value))).collect::<Map<_, _>>(),
    )
}

/// A heading as the name of a member: `Time(s)` is `time_s`.
fn name(heading: &str) -> String {
    let words = heading.split(|char: char| !char.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").to_ascii_lowercase()
}

fn number_or_text(cell: &str) -> Value {
    cell.parse::<serde_json::Number>().map_or_else(|_| Value::from(cell), Value::Number)
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
            table.text(),
            "Name            ID\n\
             dom0             0\n\
             a-long-name  12345\n"
        );
    }

    #[test]
    fn programs_get_the_same() {
        let mut table = Table::new([("Name", Align::Left), ("Time(s)", Align::Right)]);
        table.add(["1st \"one\"".into(), "1.5".into()]);
        assert_eq!(table.json().to_string(), r#"[{"name":"1st \"one\"","time_s":1.5}]"#);
        let mut record = Record::default();
        record.add("free_frames", 1000);
        record.add("monitor", "Aurochs");
        assert_eq!(
            record.text(),
            "free_frames            : 1000\nmonitor                : Aurochs\n"
        );
        assert_eq!(record.json().to_string(), r#"{"free_frames":1000,"monitor":"Aurochs"}"#);
    }

    #[test]
    fn lines_have_no_spaces_at_their_end() {
        let mut table = Table::new([("A", Align::Left), ("B", Align::Left)]);
        table.add(["x".into(), "".into()]);
        assert_eq!(table.text(), "A  B\nx\n");
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
            let text = table.text();
            let lengths: Vec<usize> = text.lines().map(str::len).collect();
            prop_assert!(lengths.iter().all(|&length| length == lengths[0]), "{text}");
        }
    }
}
