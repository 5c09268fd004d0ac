//! The lines that the guest prints, one for each operation:
//! `bench: NAME samples=N median=N min=N p99=N`.

use anyhow::{Context, Result, bail};

/// What the guest's lines begin with. Xen puts the domain before it.
const MARK: &str = "bench: ";
/// What it prints last.
const DONE: &str = "done";
const STOPPED: &str = "stopped: ";
const FAILED: &str = " failed: ";

/// What an operation cost, in instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the guest calls the operation.
    pub name: String,
    /// How often it was done.
    pub samples: u64,
    /// Half of the samples were not dearer.
    pub median: u64,
    /// The cheapest.
    pub min: u64,
    /// 99 of 100 samples were not dearer.
    pub p99: u64,
}

/// All rows of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// Reads what a console showed.
    ///
    /// # Errors
    /// The guest did not come to its end, or an operation failed: the error says which and why.
    pub fn parse(console: &str) -> Result<Rows> {
        let mut rows = Vec::new();
        for text in lines(console) {
            if text == DONE {
                return Ok(Rows(rows));
            } else if let Some(reason) = text.strip_prefix(STOPPED) {
                bail!("the guest stopped: {reason}");
            } else if let Some((name, reason)) = text.split_once(FAILED) {
                bail!("{name} failed: {reason}");
            }
            rows.extend(Row::parse(text));
        }
        bail!("the guest did not come to its end")
    }

    /// Whether the guest has ended, well or not.
    pub fn ended(console: &str) -> bool {
        lines(console).any(|text| text == DONE || text.starts_with(STOPPED))
    }

    /// The row of an operation.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Row> {
        let row = self.0.iter().find(|row| row.name == name);
        row.with_context(|| format!("the guest printed no row `{name}`"))
    }
}

/// The guest's lines, without their mark.
fn lines(console: &str) -> impl Iterator<Item = &str> {
    console.lines().filter_map(|line| Some(line.split_once(MARK)?.1.trim_end()))
}

impl Row {
    fn parse(text: &str) -> Option<Row> {
        let mut words = text.split_whitespace();
        let name = words.next()?.to_string();
        let mut number = |key: &str| -> Option<u64> {
            words.next()?.strip_prefix(key)?.strip_prefix('=')?.parse().ok()
        };
        Some(Row {
            name,
            samples: number("samples")?,
            median: number("median")?,
            min: number("min")?,
            p99: number("p99")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "(XEN) d1v0: something\r\n\
        (d1) bench: null-hypercall samples=2000 median=425 min=420 p99=431\r\n\
        bench: a line of another kind\r\n\
        bench: copy-1 samples=5 median=3 min=2 p99=4\r\n";

    #[test]
    fn rows_are_read_whatever_stands_before_them() {
        let console = format!("{CONSOLE}(d1) bench: done\r\n");
        let rows = Rows::parse(&console).unwrap();
        let row = rows.get("null-hypercall").unwrap();
        assert_eq!((row.samples, row.median, row.min, row.p99), (2000, 425, 420, 431));
        assert_eq!(rows.get("copy-1").unwrap().median, 3);
        assert!(rows.get("copy").unwrap_err().to_string().contains("`copy`"));
        assert!(Rows::ended(&console));
    }

    #[test]
    fn a_run_that_did_not_end_well_is_an_error() {
        let reason = |end: &str| Rows::parse(&format!("{CONSOLE}{end}")).unwrap_err().to_string();
        assert_eq!(reason(""), "the guest did not come to its end");
        assert_eq!(reason("bench: stopped: no partner\n"), "the guest stopped: no partner");
        assert_eq!(reason("bench: map-unmap failed: status -8\n"), "map-unmap failed: status -8");
        assert!(!Rows::ended(CONSOLE));
        assert!(Rows::ended("bench: stopped: no partner"));
    }
}
