//! Debian's arm64 kernel and busybox. Their packages are fetched, not installed, and what the guest
//! needs of them is kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use lzma_rust2::XzReader;

use crate::paths;
use crate::setup::deb::{self, ARCHITECTURE};
use crate::setup::{apt, output_of};

/// Depends on the newest kernel.
const KERNEL: &str = "linux-image-arm64";
const BUSYBOX: &str = "busybox-static";

/// What a block device, a network device and a file system need, in the order in which they can be
/// loaded. One that a kernel has built in is not in its package.
const GUEST_MODULES: [&str; 7] =
    ["crc16", "mbcache", "jbd2", "crc32c_generic", "ext4", "xen-blkfront", "xen-netfront"];
/// What a dom0 of Xen needs: the machine's disks, the calls of Xen's tools, backends, a bridge.
const DOM0_MODULES: [&str; 13] = [
    "virtio_mmio",
    "virtio_blk",
    "brd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "xen-blkback",
    "xen-netback",
    "llc",
    "stp",
    "bridge",
];
/// What is of no use if it lacks one of these.
const ESSENTIAL: [&str; 6] = [
    "vmlinuz",
    "busybox",
    "xen-blkfront.ko",
    "xen-netfront.ko",
    "xen-blkback.ko",
    "xen-netback.ko",
];

/// Where what was fetched is.
#[derive(Debug, Clone)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// Fetches what is not there yet, the kernel from a release of Debian's (such as
    /// bookworm-backports) or, without one, from where apt prefers.
    ///
    /// # Errors
    /// It cannot be fetched: the error is the command that mends it.
    pub fn get(release: Option<&str>) -> Result<Packages> {
        let folder = paths::target().join("linux").join(release.unwrap_or("default"));
        let packages = Packages { folder };
        if packages.missing().is_some() {
            // An older one may hold less.
            fs::remove_dir_all(&packages.folder).ok();
            deb::complete(&packages.folder, |folder| fetch(release, folder)).context(
                "cannot fetch Debian's Linux; give --linux-kernel and --linux-initrd instead",
            )?;
        }
        if let Some(file) = packages.missing() {
            bail!("Debian's packages {KERNEL} and {BUSYBOX} have no {file}");
        }
        Ok(packages)
    }

    /// An essential file that is not there.
    fn missing(&self) -> Option<&'static str> {
        ESSENTIAL.into_iter().find(|file| !self.folder.join(file).is_file())
    }

    /// The kernel's image.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// busybox, linked statically.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The kernel's modules for a guest, in the order in which they can be loaded.
    pub fn guest_modules(&self) -> Vec<PathBuf> {
        self.modules(&GUEST_MODULES)
    }

    /// The same for a dom0.
    pub fn dom0_modules(&self) -> Vec<PathBuf> {
        self.modules(&DOM0_MODULES)
    }

    fn modules(&self, names: &[&str]) -> Vec<PathBuf> {
        let path = |name: &&str| self.folder.join(format!("{name}.ko"));
        names.iter().map(path).filter(|path| path.is_file()).collect()
    }
}

fn fetch(release: Option<&str>, folder: &Path) -> Result<()> {
    let from = release.map(|release| format!(" of {release}")).unwrap_or_default();
    eprintln!("Fetching Debian's {KERNEL}{from} and {BUSYBOX} for {ARCHITECTURE}");
    let depends = output_of(
        Command::new("dpkg-deb")
            .args(["--field"])
            .arg(download(KERNEL, release, folder)?)
            .arg("Depends"),
    )?;
    fs::remove_dir_all(folder.join(KERNEL))?;
    let newest = depends.split([' ', ',']).next().unwrap_or_default();
    unpack(&download(newest, release, folder)?, folder)?;
    unpack(&download(BUSYBOX, None, folder)?, folder)
}

/// Downloads a package; returns its file.
fn download(package: &str, release: Option<&str>, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join(package);
    fs::create_dir(&folder)?;
    match release {
        Some(release) => apt::download_from(release, package, ARCHITECTURE, &folder)?,
        None => apt::download(package, ARCHITECTURE, &folder)?,
    }
    let file = folder.read_dir()?.next().context("apt-get downloaded nothing")??;
    Ok(file.path())
}

/// Takes out of a package what the guest needs, and forgets the package.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    deb::for_each_entry(package, |entry| {
        let name = wanted(&entry.path()?).filter(|_| entry.header().entry_type().is_file());
        let Some(name) = name else { return Ok(()) };
        // Newer kernels' modules are compressed, which this busybox does not read.
        let (name, mut content): (&str, Box<dyn Read + '_>) = match name.strip_suffix(".xz") {
            Some(plain) => (plain, Box::new(XzReader::new(entry, true))),
            None => (&name, Box::new(entry)),
        };
        let mut file = File::create(folder.join(name))?;
        io::copy(&mut content, &mut file).with_context(|| format!("cannot unpack {name}"))?;
        Ok(())
    })?;
    fs::remove_dir_all(package.parent().unwrap_or(package))?;
    Ok(())
}

/// What a file of a package is called here; `None` if it is not needed.
fn wanted(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let module = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko");
    match name {
        "busybox" if path.ends_with("bin/busybox") => Some(name.into()),
        _ if name.starts_with("vmlinuz") => Some("vmlinuz".into()),
        _ => {
            let is_needed =
                |module: &str| GUEST_MODULES.contains(&module) || DOM0_MODULES.contains(&module);
            module.filter(|module| is_needed(module)).map(|_| name.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_busybox_and_frontends_are_taken_out_of_the_packages() {
        let wanted = |path: &str| wanted(Path::new(path));
        assert_eq!(wanted("./boot/vmlinuz-6.1.0-1-arm64").as_deref(), Some("vmlinuz"));
        assert_eq!(wanted("./bin/busybox").as_deref(), Some("busybox"));
        let frontend = "./lib/modules/6.1.0-1-arm64/kernel/drivers/block/xen-blkfront.ko";
        assert_eq!(wanted(frontend).as_deref(), Some("xen-blkfront.ko"));
        assert_eq!(wanted(&format!("{frontend}.xz")).as_deref(), Some("xen-blkfront.ko.xz"));
        assert_eq!(wanted("./lib/modules/6.1.0-1-arm64/kernel/fs/xfs/xfs.ko"), None);
        assert_eq!(wanted("./usr/share/initramfs-tools/hooks/busybox"), None);
        assert_eq!(wanted("./boot/config-6.1.0-1-arm64"), None);
    }
}
