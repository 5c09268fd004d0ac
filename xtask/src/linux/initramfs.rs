//! The guest's initial ramdisk: busybox, the kernel's modules and what runs first.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::packages::Packages;
use crate::image::Initramfs;

const INIT: &[u8] = include_bytes!("init.sh");
const UDHCPC: &[u8] = include_bytes!("udhcpc.sh");
const INITTAB: &[u8] = include_bytes!("inittab");

/// The archive. What is in the folder `programs` is in the guest, too.
///
/// # Errors
/// A file cannot be read.
pub fn build(packages: &Packages, programs: Option<&Path>) -> Result<Vec<u8>> {
    let mut archive = Initramfs::default();
    if let Some(programs) = programs {
        archive.add_tree(programs)?;
    }
    archive.add_folder("dev")?;
    archive.add_folder("mnt")?;
    archive.add_program("init", INIT)?;
    archive.add_program("etc/udhcpc", UDHCPC)?;
    archive.add_file("etc/inittab", INITTAB)?;
    archive.add_program("bin/busybox", &fs::read(packages.busybox())?)?;
    archive.add_modules(&packages.guest_modules())?;
    archive.finish()
}
