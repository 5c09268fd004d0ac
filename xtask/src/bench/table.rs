//! What a person sees, and what a program reads.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};
use serde_json::{Value, json};

use super::operation::Operation;
use super::row::Row;

/// An operation that was measured.
#[derive(Debug)]
pub struct Measured {
    /// Which.
    pub operation: &'static Operation,
    /// What it cost here.
    pub ours: Row,
    /// What it cost on Xen, if that was asked for.
    pub theirs: Option<Row>,
}

impl Measured {
    /// Whether it is as cheap as it is to be.
    pub fn is_within_bar(&self) -> bool {
        self.ours.median <= self.operation.bar
    }

    /// How many times more instructions Xen takes.
    fn ratio(&self) -> Option<f64> {
        Some(self.theirs.as_ref()?.median as f64 / self.ours.median.max(1) as f64)
    }
}

/// A table without rows.
pub fn empty(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners()).set_header(header);
    table
}

/// A number with its thousands apart, to the right.
pub fn number(value: u64) -> Cell {
    Cell::new(grouped(value)).set_alignment(CellAlignment::Right)
}

/// The table, and a last line that sums it up.
pub fn show(measured: &[Measured]) -> String {
    let with_peer = measured.iter().any(|measured| measured.theirs.is_some());
    let mut header = vec!["Operation", "Instructions", "Bar", ""];
    if with_peer {
        header.extend(["Xen", "Xen / Aurochs"]);
    }
    let mut table = empty(header.into_iter().map(String::from));
    for one in measured {
        let mut row = vec![
            Cell::new(one.operation.title),
            number(one.ours.median),
            number(one.operation.bar),
            verdict(one),
        ];
        if let (Some(theirs), Some(ratio)) = (&one.theirs, one.ratio()) {
            row.push(number(theirs.median));
            let digits = if ratio < 100.0 { 1 } else { 0 };
            row.push(Cell::new(format!("{ratio:.digits$}")).set_alignment(CellAlignment::Right));
        }
        table.add_row(row);
    }
    format!("{table}\n{}", summary(measured))
}

fn verdict(measured: &Measured) -> Cell {
    if measured.is_within_bar() {
        return Cell::new("✓").fg(Color::Green);
    }
    let bar = measured.operation.bar.max(1);
    let over = measured.ours.median.saturating_sub(bar) * 100 / bar;
    Cell::new(format!("✗ {over} % over")).fg(Color::Red)
}

fn summary(measured: &[Measured]) -> String {
    let within = measured.iter().filter(|measured| measured.is_within_bar()).count();
    let mut line = format!("{within} of {} are within their bars.", measured.len());
    let mut ratios: Vec<f64> = measured.iter().filter_map(Measured::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        line.push_str(&format!(" Xen takes {median:.1} times as many instructions (median)."));
    }
    line
}

/// The same for programs.
pub fn json(measured: &[Measured]) -> Value {
    let row = |row: &Row| json!({ "median": row.median, "min": row.min, "p99": row.p99, "samples": row.samples });
    let one = |measured: &Measured| {
        json!({
            "name": measured.operation.name,
            "title": measured.operation.title,
            "cpus": measured.operation.cpus,
            "bar": measured.operation.bar,
            "within_bar": measured.is_within_bar(),
            "aurochs": row(&measured.ours),
            "xen": measured.theirs.as_ref().map(row),
        })
    };
    measured.iter().map(one).collect()
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::operation::OPERATIONS;

    fn row(median: u64) -> Row {
        Row { name: "x".into(), samples: 1, median, min: median, p99: median }
    }

    #[test]
    fn verdicts_ratios_and_sums() {
        let [first, second, ..] = &OPERATIONS;
        let measured = [
            Measured { operation: first, ours: row(first.bar), theirs: Some(row(4 * first.bar)) },
            Measured {
                operation: second,
                ours: row(2 * second.bar),
                theirs: Some(row(second.bar * 2)),
            },
        ];
        let text = show(&measured);
        assert!(text.contains("✓") && text.contains("✗ 100 % over"), "{text}");
        assert!(text.contains("1 of 2 are within their bars"), "{text}");
        assert!(text.contains("Xen takes 4.0 times"), "{text}");
        assert_eq!(json(&measured)[1]["within_bar"], false);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([7, 1000, 20_000_000].map(grouped), ["7", "1,000", "20,000,000"]);
    }
}
