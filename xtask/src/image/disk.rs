//! Disks as the host sees them, and the one that the machine gets if the user gives none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::paths;

/// A disk of `mib` MiB of random bytes, which stays what it is from run to run.
///
/// # Errors
/// It cannot be written.
pub fn default(mib: u64) -> Result<PathBuf> {
    let path = paths::target().join("disk.img");
    if !path.exists() {
        eprintln!("Making a disk of {mib} MiB of random bytes: {}", path.display());
        // Under another name first: half a disk must not look like one.
        let unfinished = path.with_extension("unfinished");
        random(&unfinished, mib)?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

/// Writes `mib` MiB of random bytes to `path`.
///
/// # Errors
/// They cannot be written.
pub fn random(path: &Path, mib: u64) -> Result<()> {
    let write = || -> io::Result<u64> {
        let mut file = File::create(path)?;
        io::copy(&mut File::open("/dev/urandom")?.take(mib << 20), &mut file)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// The SHA-256 of the file at `path`, in hexadecimal digits.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    sha256_of(file).with_context(|| format!("cannot read {}", path.display()))
}

/// The SHA-256 of what `source` gives, in hexadecimal digits.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of(mut source: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes sure that the file at `path` is filled with `pattern`, over and over.
///
/// # Errors
/// It is not: names the first place that differs.
pub fn check_pattern(path: &Path, pattern: &[u8]) -> Result<()> {
    let content = fs::read(path)?;
    ensure!(!content.is_empty(), "{} is empty", path.display());
    let differs = content.iter().zip(pattern.iter().cycle()).position(|(is, should)| is != should);
    match differs {
        None => Ok(()),
        Some(offset) => {
            let end = content.len().min(offset + 16);
            bail!("byte {offset} of {} begins {:x?}", path.display(), &content[offset..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(b"abc".as_slice()).unwrap(), expected);
    }

    #[test]
    fn random_disk_has_its_size_and_is_random() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        random(&path, 1).unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert_ne!(bytes[..4096], bytes[4096..8192]);
    }

    #[test]
    fn patterns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, "abcabca").unwrap();
        check_pattern(&path, b"abc").unwrap();
        fs::write(&path, "abcabxa").unwrap();
        assert!(check_pattern(&path, b"abc").unwrap_err().to_string().starts_with("byte 5 "));
        fs::write(&path, "").unwrap();
        assert!(check_pattern(&path, b"abc").is_err());
    }
}
