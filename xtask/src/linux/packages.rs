//! Debian's arm64 kernel and busybox. Their packages are fetched, not installed, and what the guest
//! needs of them is kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::setup::{apt, output_of};

const ARCHITECTURE: &str = "arm64";
/// Depends on the newest kernel.
const KERNEL: &str = "linux-image-arm64";
const BUSYBOX: &str = "busybox-static";

/// What a block device, a network device and a file system need, in the order in which they can be
/// loaded. One that a kernel has built in is not in its package.
const MODULES: [&str; 7] =
    ["crc16", "mbcache", "jbd2", "crc32c_generic", "ext4", "xen-blkfront", "xen-netfront"];

/// Where what was fetched is.
#[derive(Debug, Clone)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// Fetches what is not there yet.
    ///
    /// # Errors
    /// It cannot be fetched: the error is the command that mends it.
    pub fn get() -> Result<Packages> {
        let folder = paths::target().join("linux");
        if !folder.is_dir() {
            fs::create_dir_all(paths::target())?;
            // Under another name first: half of it must not look like all.
            let unfinished =
                tempfile::Builder::new().prefix("linux-").tempdir_in(paths::target())?;
            fetch(unfinished.path()).context(
                "cannot fetch Debian's Linux; give --linux-kernel and --linux-initrd instead",
            )?;
            fs::rename(unfinished.keep(), &folder)?;
        }
        Ok(Packages { folder })
    }

    /// The kernel's image.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// busybox, linked statically.
    pub fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    /// The kernel's modules, in the order in which they can be loaded.
    pub fn modules(&self) -> Vec<PathBuf> {
        let path = |name: &&str| self.folder.join(format!("{name}.ko"));
        MODULES.iter().map(path).filter(|path| path.is_file()).collect()
    }
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("Fetching Debian's {KERNEL} and {BUSYBOX} for {ARCHITECTURE}");
    let newest = output_of(
        Command::new("dpkg-deb").args(["--field"]).arg(download(KERNEL, folder)?).arg("Depends"),
    )?;
    fs::remove_dir_all(folder.join(KERNEL))?;
    let newest = newest.split([' ', ',']).next().unwrap_or_default();
    unpack(&download(newest, folder)?, folder)?;
    unpack(&download(BUSYBOX, folder)?, folder)?;
    for file in ["vmlinuz", "busybox", "xen-blkfront.ko", "xen-netfront.ko"] {
        ensure!(folder.join(file).is_file(), "{newest} and {BUSYBOX} have no {file}");
    }
    Ok(())
}

/// Downloads a package; returns its file.
fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join(package);
    fs::create_dir(&folder)?;
    apt::download(package, ARCHITECTURE, &folder)?;
    let file = folder.read_dir()?.next().context("apt-get downloaded nothing")??;
    Ok(file.path())
}

/// Takes out of a package what the guest needs, and forgets the package.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = wanted(&entry.path()?).filter(|_| entry.header().entry_type().is_file());
        if let Some(name) = name {
            io::copy(&mut entry, &mut File::create(folder.join(name))?)?;
        }
    }
    ensure!(unpacker.wait()?.success(), "dpkg-deb cannot unpack {}", package.display());
    fs::remove_dir_all(package.parent().unwrap_or(package))?;
    unxz(folder)
}

/// What a file of a package is called here; `None` if it is not needed.
fn wanted(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let module = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko");
    match name {
        "busybox" if path.ends_with("bin/busybox") => Some(name.into()),
        _ if name.starts_with("vmlinuz") => Some("vmlinuz".into()),
        _ => module.filter(|module| MODULES.contains(module)).map(|_| name.into()),
    }
}

/// Newer kernels' modules are compressed, which this busybox does not read.
fn unxz(folder: &Path) -> Result<()> {
    for file in folder.read_dir()? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "xz") {
            output_of(Command::new("xz").arg("--decompress").arg(&path))?;
        }
    }
    Ok(())
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
