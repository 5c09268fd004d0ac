//! dom0's ramdisk: a ustar archive with the kernel images that it can create domains from
//! (`guests/NAME`), their own initial ramdisks (`ramdisks/NAME`) and their domain files
//! (`domains/NAME.toml`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};
use toml::{Table, Value};

use super::kernel;
use crate::linux::Linux;
use crate::options::Guest;

/// The domain that gets every disk.
const ALL_DISKS: &str = "hash";
/// Virtual disks are named xvda to xvdz.
const LETTERS: std::ops::RangeInclusive<char> = 'a'..='z';

/// The archive while it is made.
pub struct Ramdisk {
    archive: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Ramdisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ramdisk").field("bytes", &self.archive.get_ref().len()).finish()
    }
}

impl Default for Ramdisk {
    fn default() -> Ramdisk {
        Ramdisk { archive: Builder::new(Vec::new()) }
    }
}

impl Ramdisk {
    /// Adds the kernel image of the example guest `name`.
    ///
    /// # Errors
    /// It cannot be added.
    pub fn add_kernel(&mut self, name: &str, image: &[u8]) -> Result<()> {
        self.add(&format!("guests/{name}"), image)
    }

    /// Adds the domain files in `folder`, of which [`ALL_DISKS`] gets `disks` disks.
    ///
    /// # Errors
    /// One cannot be read or is not TOML.
    pub fn add_domain_files(&mut self, folder: &Path, disks: usize) -> Result<()> {
        let mut paths: Vec<_> =
            folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let mut text = fs::read_to_string(&path)?;
            if name == ALL_DISKS {
                text = with_disks(&text, disks).with_context(|| path.display().to_string())?;
            }
            self.add(&format!("domains/{name}.toml"), text.as_bytes())?;
        }
        Ok(())
    }

    /// Adds the guest `linux`, whose disk is the machine's disk of this number.
    ///
    /// # Errors
    /// It cannot be added.
    pub fn add_linux(&mut self, linux: &Linux, disk: usize) -> Result<()> {
        self.add_kernel(Linux::NAME, &linux.kernel)?;
        self.add(&format!("ramdisks/{}", Linux::NAME), &linux.ramdisk)?;
        let file = Linux::domain_file(disk)?;
        self.add(&format!("domains/{}.toml", Linux::NAME), file.as_bytes())
    }

    /// Adds a guest that the user brings: kernel image, initial ramdisk and domain file.
    ///
    /// # Errors
    /// A file cannot be read, or the kernel is none.
    pub fn add_guest(&mut self, guest: &Guest) -> Result<()> {
        let name = guest.name.as_str();
        self.add_kernel(name, &kernel::read(&guest.image)?)?;
        let mut file = Table::new();
        file.insert("name".into(), Value::from(name));
        file.insert("kernel".into(), Value::from(name));
        if let Some(path) = &guest.ramdisk {
            let ramdisk =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.add(&format!("ramdisks/{name}"), &ramdisk)?;
            file.insert("ramdisk".into(), Value::from(name));
        }
        file.insert("memory".into(), Value::from(i64::try_from(guest.memory)?));
        file.insert("vcpus".into(), Value::from(i64::from(guest.vcpus)));
        self.add(&format!("domains/{name}.toml"), file.to_string().as_bytes())
    }

    /// The archive.
    ///
    /// # Errors
    /// It cannot be finished.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(self.archive.into_inner()?)
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // No time and no owner: equal content gives an equal archive.
        self.archive
            .append_data(&mut header, name, content)
            .with_context(|| format!("cannot add {name} to the ramdisk"))
    }
}

/// The domain file `text` with one entry for each of `count` disks.
fn with_disks(text: &str, count: usize) -> Result<String> {
    let mut file: Table = text.parse()?;
    let disks = LETTERS.zip(0..count).map(|(letter, number)| {
        Value::from(format!("target=disk{number}, vdev=xvd{letter}, access=rw"))
    });
    file.insert("disk".into(), Value::Array(disks.collect()));
    Ok(file.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names_and_contents(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    #[test]
    fn archive_holds_kernels_and_domain_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hello.toml"), "name = \"hello\"").unwrap();
        fs::write(folder.path().join("hash.toml"), "name = \"hash\"\nmemory = 16\n").unwrap();
        fs::write(folder.path().join("README"), "no domain").unwrap();
        let image = folder.path().join("linux");
        fs::write(&image, b"\x7fELF and more").unwrap();
        let files = folder.path().join("files");
        fs::write(&files, b"small").unwrap();

        let mut ramdisk = Ramdisk::default();
        ramdisk.add_kernel("hello", b"image").unwrap();
        ramdisk.add_domain_files(folder.path(), 2).unwrap();
        let guest =
            Guest { name: "linux".into(), image, ramdisk: Some(files), memory: 256, vcpus: 2 };
        ramdisk.add_guest(&guest).unwrap();
        let files = names_and_contents(&ramdisk.finish().unwrap());

        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "guests/hello",
                "domains/hash.toml",
                "domains/hello.toml",
                "guests/linux",
                "ramdisks/linux",
                "domains/linux.toml"
            ]
        );
        let table = |index: usize| -> Table {
            std::str::from_utf8(&files[index].1).unwrap().parse().unwrap()
        };
        assert_eq!(files[0].1, b"image");
        assert_eq!(table(1)["memory"].as_integer(), Some(16));
        assert_eq!(table(1)["disk"][1].as_str(), Some("target=disk1, vdev=xvdb, access=rw"));
        assert_eq!(files[4].1, b"small");
        assert_eq!(table(5)["vcpus"].as_integer(), Some(2));
        assert_eq!(table(5)["ramdisk"].as_str(), Some("linux"));
    }

    #[test]
    fn guest_images_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("text");
        let guest =
            Guest { name: "x".into(), image: image.clone(), ramdisk: None, memory: 16, vcpus: 1 };
        assert!(Ramdisk::default().add_guest(&guest).is_err(), "there is no such file");
        fs::write(&image, "just text").unwrap();
        assert!(Ramdisk::default().add_guest(&guest).is_err(), "it is no kernel");
    }

    #[test]
    fn equal_content_gives_an_equal_archive() {
        let archive = || {
            let mut ramdisk = Ramdisk::default();
            ramdisk.add_kernel("a", b"1").unwrap();
            ramdisk.finish().unwrap()
        };
        assert_eq!(archive(), archive());
        assert_eq!(&archive()[257..262], b"ustar");
    }
}
