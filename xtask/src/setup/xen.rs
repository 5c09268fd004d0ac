//! Debian's Xen, beside which Aurochs is measured and on which its guests run.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::deb;

const PACKAGE: &str = "xen-hypervisor-4.17-arm64";
/// Where the hypervisor is in the package.
const FILE: &str = "boot/xen-4.17-arm64";
/// What a dom0 needs to create domains.
pub const XEN_TOOLS: [&str; 2] = ["xen-utils-4.17", "xenstore-utils"];

/// The hypervisor's image; fetches it if it is not there yet.
///
/// # Errors
/// It cannot be fetched: the error is the command that mends it.
pub fn xen() -> Result<PathBuf> {
    let image = deb::unpacked(&[PACKAGE])?.join(FILE);
    ensure!(image.is_file(), "the package {PACKAGE} has no {FILE}");
    Ok(image)
}
