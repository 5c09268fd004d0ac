//! How a running machine is found: a file for each, named after the process that runs it and
//! locked by it, which says where its channels are. The lock goes with the process, however that
//! ends.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use crate::paths;

/// Says that a machine runs, as long as it lives.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    _lock: File,
}

impl Announcement {
    /// Announces the machine whose channels are in `folder`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(folder: &Path) -> Result<Announcement> {
        Announcement::in_directory(&paths::running(), folder)
    }

    fn in_directory(directory: &Path, folder: &Path) -> Result<Announcement> {
        let path = directory.join(process::id().to_string());
        let announce = || -> Result<File> {
            fs::create_dir_all(directory)?;
            let mut file = File::create(&path)?;
            file.try_lock()?;
            file.write_all(folder.as_os_str().as_encoded_bytes())?;
            Ok(file)
        };
        let lock = announce().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Announcement { path, _lock: lock })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // If it stays, whoever looks for machines removes it.
        fs::remove_file(&self.path).ok();
    }
}

/// The folder of the machine that the process `wanted` runs, or of the only one.
///
/// # Errors
/// There is none, or there are several and nothing is wanted.
pub fn find(wanted: Option<u32>) -> Result<PathBuf> {
    choose(all(&paths::running()), wanted)
}

fn choose(mut machines: Vec<(u32, PathBuf)>, wanted: Option<u32>) -> Result<PathBuf> {
    machines.retain(|(id, _)| wanted.is_none_or(|wanted| wanted == *id));
    match (machines.as_slice(), wanted) {
        ([(_, folder)], _) => Ok(folder.clone()),
        ([], None) => bail!("no machine is running: start one by `cargo xtask run`"),
        ([], Some(wanted)) => bail!("no process {wanted} runs a machine; leave out --machine"),
        (several, _) => {
            let mut ids: Vec<u32> = several.iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            bail!("several machines are running: choose by --machine {}", ids.join(" or "))
        }
    }
}

/// Machines that run; what others left is removed.
fn all(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path())).collect()
}

fn read(path: &Path) -> Option<(u32, PathBuf)> {
    let id = path.file_name()?.to_str()?.parse().ok()?;
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut folder = String::new();
            file.read_to_string(&mut folder).ok()?;
            Some((id, folder.into()))
        }
        // Nobody holds it any more.
        _ => {
            fs::remove_file(path).ok();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_as_long_as_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(all(directory.path()), []);
        let announcement =
            Announcement::in_directory(directory.path(), Path::new("/tmp/x")).unwrap();
        assert_eq!(all(directory.path()), [(process::id(), "/tmp/x".into())]);
        drop(announcement);
        assert_eq!(all(directory.path()), []);
    }

    #[test]
    fn what_a_killed_machine_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("4711");
        fs::write(&path, "/tmp/x").unwrap();
        assert_eq!(all(directory.path()), []);
        assert!(!path.exists());
    }

    #[test]
    fn which_one_is_said_or_clear() {
        let machines = || vec![(7, PathBuf::from("/a")), (3, PathBuf::from("/b"))];
        assert_eq!(choose(machines(), Some(7)).unwrap(), Path::new("/a"));
        let error = |machines, wanted| choose(machines, wanted).unwrap_err().to_string();
        assert!(error(machines(), None).contains("--machine 3 or 7"));
        assert!(error(machines(), Some(4)).contains("no process 4"));
        assert!(error(vec![], None).contains("cargo xtask run"));
    }
}
