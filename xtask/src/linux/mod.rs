//! The guest `linux`: Debian's kernel as it is, with an initial ramdisk made here and a disk with an
//! empty file system.

mod initramfs;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};
use toml::{Table, Value};

use crate::image::kernel;
use crate::options;
use crate::setup::{self, Tool, deb, output_of};
pub use packages::Packages;

/// Its domain file, but for the disk.
const DOMAIN: &str = include_str!("domain.toml");
/// MiB of its disk.
const DISK_MIB: u64 = 64;

/// Everything that dom0 needs to create the guest.
#[derive(Debug, Clone)]
pub struct Linux {
    /// The kernel's image.
    pub kernel: Vec<u8>,
    /// Its initial ramdisk.
    pub ramdisk: Vec<u8>,
}

impl Linux {
    /// The name of kernel, ramdisk and domain file.
    pub const NAME: &str = "linux";

    /// The guest that the user wants, if so.
    ///
    /// # Errors
    /// Something cannot be fetched or read.
    pub fn new(options: &options::Machine) -> Result<Option<Linux>> {
        if let (Some(image), Some(initrd)) = (&options.linux_kernel, &options.linux_initrd) {
            let ramdisk =
                fs::read(initrd).with_context(|| format!("cannot read {}", initrd.display()))?;
            return Ok(Some(Linux { kernel: kernel::read(image)?, ramdisk }));
        }
        if !options.linux {
            return Ok(None);
        }
        let packages: Vec<&str> = options.linux_packages.iter().map(String::as_str).collect();
        Linux::fetched(options.linux_release.as_deref(), &packages).map(Some)
    }

    /// Debian's, of a release or of the one that apt prefers, with the initial ramdisk that is made
    /// for it here: with the programs of other packages, too.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub fn fetched(release: Option<&str>, programs: &[&str]) -> Result<Linux> {
        let packages = packages(release)?;
        let programs = if programs.is_empty() { None } else { Some(deb::unpacked(programs)?) };
        let ramdisk = initramfs::build(&packages, programs.as_deref())?;
        Ok(Linux { kernel: kernel::read(&packages.kernel())?, ramdisk })
    }

    /// Makes its disk in `folder`.
    ///
    /// # Errors
    /// There is no mke2fs, or no room.
    pub fn make_disk(folder: &Path) -> Result<PathBuf> {
        let path = folder.join("linux-disk.img");
        setup::ensure(&[Tool::Mke2fs])?;
        let mut mke2fs = Command::new(Tool::Mke2fs.find()?.path);
        mke2fs.args(["-q", "-F", "-t", "ext4", "-L", Linux::NAME]).arg(&path);
        output_of(mke2fs.arg(format!("{DISK_MIB}M"))).context("cannot make Linux' disk")?;
        Ok(path)
    }

    /// Its domain file; its disk is the machine's disk of that number.
    ///
    /// # Errors
    /// None: the text is our own.
    pub fn domain_file(disk: usize) -> Result<String> {
        let mut file = Linux::settings()?;
        let disk = format!("target=disk{disk}, vdev=xvda, access=rw");
        file.insert("disk".into(), Value::Array([Value::from(disk)].into()));
        Ok(file.to_string())
    }

    /// The keys of its domain file, without a disk.
    ///
    /// # Errors
    /// None: the text is our own.
    pub fn settings() -> Result<Table> {
        Ok(DOMAIN.parse()?)
    }
}

/// The packages with the kernel, of a release or of the one that apt prefers, and busybox. Several
/// machines of one process fetch them once.
///
/// # Errors
/// They cannot be fetched.
pub fn packages(release: Option<&str>) -> Result<Packages> {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _alone = FETCHING.lock().map_err(|_| anyhow!("fetching failed before"))?;
    Packages::get(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_file_names_the_disk() {
        let file: Table = Linux::domain_file(3).unwrap().parse().unwrap();
        assert_eq!(file["disk"][0].as_str(), Some("target=disk3, vdev=xvda, access=rw"));
        assert_eq!(file["ramdisk"].as_str(), Some(Linux::NAME));
    }
}
