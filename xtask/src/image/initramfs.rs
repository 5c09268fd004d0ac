//! Initial ramdisks for Linux: cpio archives (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// Somebody may execute it.
const EXECUTABLE: u32 = 0o111;

/// An archive while it is made. Folders are added when something in them is.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// Adds a folder.
    ///
    /// # Errors
    /// Its name is not UTF-8.
    pub fn add_folder(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || !self.folders.insert(path.into()) {
            return Ok(());
        }
        self.add(path, DIRECTORY, &[])
    }

    /// Adds a file.
    ///
    /// # Errors
    /// It is too large, or its name is not UTF-8.
    pub fn add_file(&mut self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.add(path.as_ref(), FILE, content)
    }

    /// Adds a file that can be executed.
    ///
    /// # Errors
    /// As [`Initramfs::add_file`].
    pub fn add_program(&mut self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.add(path.as_ref(), PROGRAM, content)
    }

    /// Adds all that is in `folder`.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn add_tree(&mut self, folder: &Path) -> Result<()> {
        self.add_part(folder, Path::new(""))
    }

    fn add_part(&mut self, root: &Path, part: &Path) -> Result<()> {
        let mut entries: Vec<_> = root.join(part).read_dir()?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, source) = (part.join(entry.file_name()), entry.path());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.add_part(root, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&source)?;
                self.add(&path, LINK, target.as_os_str().as_bytes())?;
            } else {
                let executable = metadata.permissions().mode() & EXECUTABLE != 0;
                let mode = if executable { PROGRAM } else { FILE };
                let content = fs::read(&source)
                    .with_context(|| format!("cannot read {}", source.display()))?;
                self.add(&path, mode, &content)?;
            }
        }
        Ok(())
    }

    /// Adds the kernel's modules to `lib/modules`, and a list of them in the order in which they can
    /// be loaded.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn add_modules(&mut self, modules: &[PathBuf]) -> Result<()> {
        let mut order = String::new();
        for module in modules {
            let name = module.file_name().and_then(OsStr::to_str).context("a module's name")?;
            self.add_file(format!("lib/modules/{name}"), &fs::read(module)?)?;
            order.push_str(&format!("{name}\n"));
        }
        self.add_file("lib/modules/order", order.as_bytes())
    }

    /// The archive.
    ///
    /// # Errors
    /// It cannot be finished.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        newc::trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }

    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.add_folder(folder)?;
        }
        self.entries += 1;
        let name = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        // The kernel takes two with one number for links to one file.
        let header = newc::Builder::new(name).ino(self.entries).mode(mode).nlink(1);
        let mut writer = header.write(&mut self.bytes, size);
        writer.write_all(content).with_context(|| format!("cannot add {name}"))?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Names, modes and contents.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut found = Vec::new();
        loop {
            let mut entry = newc::Reader::new(rest).unwrap();
            if entry.entry().is_trailer() {
                return found;
            }
            assert_ne!(entry.entry().ino(), 0);
            let (name, mode) = (entry.entry().name().to_string(), entry.entry().mode());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((name, mode, content));
            rest = entry.finish().unwrap();
        }
    }

    #[test]
    fn the_archive_is_read_back() {
        let mut archive = Initramfs::default();
        archive.add_file("etc/deep/inittab", b"content").unwrap();
        archive.add_program("etc/program", b"").unwrap();
        let entries = entries(&archive.finish().unwrap());
        let expected = [
            ("etc".to_string(), DIRECTORY, vec![]),
            ("etc/deep".to_string(), DIRECTORY, vec![]),
            ("etc/deep/inittab".to_string(), FILE, b"content".to_vec()),
            ("etc/program".to_string(), PROGRAM, vec![]),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn a_tree_is_taken_as_it_is() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("bin")).unwrap();
        let program = tree.path().join("bin/program");
        fs::write(&program, "x").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("bin/program", tree.path().join("init")).unwrap();
        let mut archive = Initramfs::default();
        archive.add_tree(tree.path()).unwrap();
        let expected = [
            ("bin".to_string(), DIRECTORY, vec![]),
            ("bin/program".to_string(), PROGRAM, b"x".to_vec()),
            ("init".to_string(), LINK, b"bin/program".to_vec()),
        ];
        assert_eq!(entries(&archive.finish().unwrap()), expected);
    }
}
