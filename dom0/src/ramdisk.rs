//! The archive of kernels and domain files that the machine was started with.
//!
//! `guests/NAME` are kernel images, `ramdisks/NAME` their initial ramdisks, `domains/NAME.toml` are
//! domain files; anything else in the archive is not ours. The bytes stay where the loader put them: nothing is copied here.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
};

use tar_no_std::{CorruptDataError, TarArchiveRef};

/// What was found in the archive, by name.
#[derive(Debug, Default)]
pub struct Ramdisk {
    kernels: BTreeMap<String, &'static [u8]>,
    ramdisks: BTreeMap<String, &'static [u8]>,
    domain_files: BTreeMap<String, &'static str>,
}

impl Ramdisk {
    /// Reads the index of a ustar archive.
    ///
    /// # Errors
    /// The archive is damaged. A domain file that is not UTF-8 is left out with a warning.
    pub fn new(archive: &'static [u8]) -> Result<Ramdisk, CorruptDataError> {
        let mut ramdisk = Ramdisk::default();
        for entry in TarArchiveRef::new(archive)?.entries() {
            let path = entry.filename();
            match path.as_str() {
                Ok(path) => ramdisk.add(path, entry.data()),
                Err(_) => log::warn!("ramdisk: a file whose name is not UTF-8 is left out"),
            }
        }
        Ok(ramdisk)
    }

    fn add(&mut self, path: &str, data: &'static [u8]) {
        let path = path.strip_prefix("./").unwrap_or(path);
        if let Some(name) = path.strip_prefix("guests/") {
            self.kernels.insert(name.to_string(), data);
        } else if let Some(name) = path.strip_prefix("ramdisks/") {
            self.ramdisks.insert(name.to_string(), data);
        } else if let Some(name) = domain_file_name(path) {
            match core::str::from_utf8(data) {
                Ok(text) => drop(self.domain_files.insert(name.to_string(), text)),
                Err(error) => log::warn!("ramdisk: {path} is not UTF-8 ({error}): left out"),
            }
        }
    }

    /// The kernel image with this name.
    pub fn kernel(&self, name: &str) -> Option<&'static [u8]> {
        self.kernels.get(name).copied()
    }

    /// The initial ramdisk with this name, for a guest.
    pub fn ramdisk(&self, name: &str) -> Option<&'static [u8]> {
        self.ramdisks.get(name).copied()
    }

    /// The text of the domain file with this name.
    pub fn domain_file(&self, name: &str) -> Option<&'static str> {
        self.domain_files.get(name).copied()
    }

    /// Names of all kernels, sorted.
    pub fn kernel_names(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// Names of all initial ramdisks for guests, sorted.
    pub fn ramdisk_names(&self) -> impl Iterator<Item = &str> {
        self.ramdisks.keys().map(String::as_str)
    }

    /// Names of all domain files, sorted.
    pub fn domain_names(&self) -> impl Iterator<Item = &str> {
        self.domain_files.keys().map(String::as_str)
    }

    /// One that has just this kernel.
    #[cfg(test)]
    pub fn with_kernel(name: &str, image: &'static [u8]) -> Ramdisk {
        let kernels = [(name.to_string(), image)].into();
        Ramdisk { kernels, ..Ramdisk::default() }
    }

    /// The same with an initial ramdisk.
    #[cfg(test)]
    pub fn and_ramdisk(mut self, name: &str, data: &'static [u8]) -> Ramdisk {
        self.ramdisks.insert(name.to_string(), data);
        self
    }
}

fn domain_file_name(path: &str) -> Option<&str> {
    path.strip_prefix("domains/")?.strip_suffix(".toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ustar archive made by hand: the test shall not trust the reader's own idea of one.
    fn archive(files: &[(&str, &[u8])]) -> &'static [u8] {
        let mut archive = Vec::new();
        for (name, data) in files {
            let mut header = [0u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..108].copy_from_slice(b"0000644\0");
            header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
            header[136..148].copy_from_slice(b"00000000000\0");
            header[156] = b'0';
            header[257..265].copy_from_slice(b"ustar\x0000");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            archive.extend_from_slice(&header);
            archive.extend_from_slice(data);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        archive.resize(archive.len() + 1024, 0);
        archive.leak()
    }

    #[test]
    fn finds_files_by_name() {
        let ramdisk = Ramdisk::new(archive(&[
            ("guests/hello", b"kernel"),
            ("ramdisks/small", b"files"),
            ("domains/hello.toml", b"name = \"hello\""),
            ("domains/readme", b"not a domain file"),
            ("other", b"not ours"),
        ]))
        .unwrap();
        assert_eq!(ramdisk.kernel("hello"), Some(&b"kernel"[..]));
        assert_eq!(ramdisk.domain_file("hello"), Some("name = \"hello\""));
        assert_eq!(ramdisk.ramdisk("small"), Some(&b"files"[..]));
        assert_eq!(ramdisk.kernel("missing"), None);
        assert_eq!(ramdisk.kernel_names().collect::<Vec<_>>(), ["hello"]);
        assert_eq!(ramdisk.domain_names().collect::<Vec<_>>(), ["hello"]);
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let mut damaged = archive(&[("guests/hello", b"kernel")]).to_vec();
        damaged[0] ^= 1;
        assert!(Ramdisk::new(damaged.leak()).is_err());
        assert!(Ramdisk::new(&[0; 100]).is_err());
    }

    #[test]
    fn a_domain_file_that_is_not_text_is_left_out() {
        let ramdisk = Ramdisk::new(archive(&[("domains/bad.toml", &[0xFF, 0xFE])])).unwrap();
        assert_eq!(ramdisk.domain_names().count(), 0);
    }
}
