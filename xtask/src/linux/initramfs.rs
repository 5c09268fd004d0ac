//! The initial ramdisk: a cpio archive with busybox, the kernel's modules and what runs first
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc;

use super::packages::Packages;

const INIT: &[u8] = include_bytes!("init.sh");
const UDHCPC: &[u8] = include_bytes!("udhcpc.sh");
const INITTAB: &[u8] = include_bytes!("inittab");

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The archive.
///
/// # Errors
/// A file cannot be read.
pub fn build(packages: &Packages) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "lib", "lib/modules", "mnt"] {
        archive.add(directory, DIRECTORY, &[])?;
    }
    archive.add("init", PROGRAM, INIT)?;
    archive.add("etc/udhcpc", PROGRAM, UDHCPC)?;
    archive.add("etc/inittab", FILE, INITTAB)?;
    archive.add("bin/busybox", PROGRAM, &fs::read(packages.busybox())?)?;
    let mut order = String::new();
    for module in packages.modules() {
        let name = module.file_name().context("a module has no name")?.to_string_lossy();
        archive.add(&format!("lib/modules/{name}"), FILE, &fs::read(&module)?)?;
        order.push_str(&format!("{name}\n"));
    }
    archive.add("lib/modules/order", FILE, order.as_bytes())?;
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.files += 1;
        let size = u32::try_from(content.len())?;
        // The kernel takes two with one number for links to one file.
        let header = newc::Builder::new(name).ino(self.files).mode(mode).nlink(1);
        let mut writer = header.write(&mut self.bytes, size);
        writer.write_all(content).with_context(|| format!("cannot add {name}"))?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        newc::trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_archive_is_read_back() {
        let mut archive = Archive::default();
        archive.add("etc", DIRECTORY, &[]).unwrap();
        archive.add("etc/inittab", FILE, INITTAB).unwrap();
        let bytes = archive.finish().unwrap();
        let directory = newc::Reader::new(bytes.as_slice()).unwrap();
        assert_eq!((directory.entry().name(), directory.entry().mode()), ("etc", DIRECTORY));
        let mut file = newc::Reader::new(directory.finish().unwrap()).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!((file.entry().name(), content.as_slice()), ("etc/inittab", INITTAB));
        assert_ne!(file.entry().ino(), 0);
        assert!(newc::Reader::new(file.finish().unwrap()).unwrap().entry().is_trailer());
    }
}
