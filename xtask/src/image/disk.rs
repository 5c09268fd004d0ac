//! The disk that the machine gets if the user gives none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_disk_has_its_size_and_is_random() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        random(&path, 1).unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert_ne!(bytes[..4096], bytes[4096..8192]);
    }
}
