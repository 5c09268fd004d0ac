//! mke2fs, which makes the disk of the guest `linux`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Found, in_path, is_program};

/// Who is not root often does not have this folder in `$PATH`.
const PLACE: &str = "/usr/sbin/mke2fs";

pub(super) fn find() -> Result<Found> {
    let beside = || Some(PathBuf::from(PLACE)).filter(|path| is_program(path));
    let path = in_path(&["mke2fs"]).or_else(beside).context("no mke2fs in PATH")?;
    // It says its version where others say what is wrong.
    let output = Command::new(&path).arg("-V").output().context("mke2fs cannot be started")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let description = text.lines().next().unwrap_or("mke2fs").to_string();
    Ok(Found { description, path })
}
