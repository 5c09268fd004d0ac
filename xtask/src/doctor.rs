//! `cargo xtask doctor`

use anyhow::{Result, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, Color, ContentArrangement, Table};

use crate::setup::{Tool, apt};

/// Prints which tools were found, and how to get the others.
///
/// # Errors
/// Something is missing.
pub fn run() -> Result<()> {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED.with_rounded_corners())
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["", "Tool", "Version", "Where"]);
    let mut missing = Vec::new();
    for tool in Tool::ALL {
        match tool.find() {
            Ok(found) => table.add_row([
                Cell::new("✓").fg(Color::Green),
                Cell::new(tool.name()),
                Cell::new(found.description),
                Cell::new(found.path.display()),
            ]),
            Err(reason) => {
                missing.extend(tool.packages());
                table.add_row([
                    Cell::new("✗").fg(Color::Red),
                    Cell::new(tool.name()),
                    Cell::new("missing"),
                    Cell::new(format!("{reason:#}")),
                ])
            }
        };
    }
    println!("{table}");
    if missing.is_empty() {
        println!("Everything is there: `cargo xtask run`.");
        return Ok(());
    }
    bail!("something is missing; `cargo xtask run` installs it, or: {}", apt::mend(&missing))
}
