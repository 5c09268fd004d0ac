//! Debian's Xen, which `cargo xtask bench --peer` measures beside Aurochs. Its package is fetched and
//! unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{apt, output_of};
use crate::paths;

const PACKAGE: &str = "xen-hypervisor-4.17-arm64";
const ARCHITECTURE: &str = "arm64";
/// Where the hypervisor is in the package.
const FILE: &str = "boot/xen-4.17-arm64";

/// The hypervisor's image; fetches it if it is not there yet.
///
/// # Errors
/// It cannot be fetched: the error is the command that mends it.
pub fn xen() -> Result<PathBuf> {
    let folder = paths::target().join("xen");
    let image = folder.join(FILE);
    if !image.is_file() {
        fs::create_dir_all(&folder)?;
        fetch(&folder).with_context(|| format!("cannot fetch Debian's {PACKAGE}"))?;
        ensure!(image.is_file(), "the package {PACKAGE} has no {FILE}");
    }
    Ok(image)
}

fn fetch(folder: &Path) -> Result<()> {
    let download = tempfile::tempdir_in(folder)?;
    apt::download(PACKAGE, ARCHITECTURE, download.path())?;
    let file = download.path().read_dir()?.next().context("apt-get downloaded nothing")??.path();
    output_of(Command::new("dpkg-deb").arg("--extract").arg(file).arg(folder))?;
    Ok(())
}
