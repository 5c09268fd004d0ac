//! The linker for the bare target: LLD, from the Rust toolchain or from the distribution.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Found, Toolchain, Version, in_path, is_program, output_of};

/// LLD's names where a distribution installs several versions side by side.
const NAMES: [&str; 9] = [
    "ld.lld",
    "ld.lld-22",
    "ld.lld-21",
    "ld.lld-20",
    "ld.lld-19",
    "ld.lld-18",
    "ld.lld-17",
    "ld.lld-16",
    "ld.lld-15",
];

/// The linker, which rustc is told to use.
///
/// # Errors
/// There is none.
pub fn linker() -> Result<PathBuf> {
    Ok(find()?.path)
}

pub(super) fn find() -> Result<Found> {
    let path = of_toolchain().or_else(|| in_path(&NAMES)).context("no LLD found")?;
    let mut command = Command::new(&path);
    if path.ends_with("rust-lld") {
        command.args(["-flavor", "gnu"]);
    }
    let version: Version = output_of(command.arg("--version"))?.parse()?;
    Ok(Found { description: version.to_string(), path })
}

/// `rust-lld`, which rustup brings along: of the toolchain that builds, or of the one that runs us.
fn of_toolchain() -> Option<PathBuf> {
    let own = Toolchain::find().ok().map(|toolchain| toolchain.sysroot);
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let running = cargo.and_then(|cargo| Some(cargo.parent()?.parent()?.to_path_buf()));
    [own, running].into_iter().flatten().find_map(|sysroot| {
        let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
        hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| is_program(path))
    })
}
