//! A debugger that knows arm64.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Found, Version, in_path, output_of};

pub(super) fn find() -> Result<Found> {
    let path = in_path(&["gdb-multiarch", "aarch64-linux-gnu-gdb", "aarch64-none-elf-gdb"])
        .context("no gdb for arm64 found")?;
    let version: Version = output_of(Command::new(&path).arg("--version"))?.parse()?;
    Ok(Found { description: version.to_string(), path })
}
