//! Disks as the host sees them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

/// The SHA-256 of the file at `path`, in hexadecimal digits.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
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
            anyhow::bail!("byte {offset} of {} begins {:x?}", path.display(), &content[offset..end])
        }
    }
}

/// The file's size in bytes.
///
/// # Errors
/// It is not there.
pub fn size(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), expected);
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
