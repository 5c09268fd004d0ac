//! What Debian's packages for the machine hold. They are fetched and unpacked, not installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, ensure};
use tar::{Archive, Entry};

use super::apt;
use crate::paths;

/// The machine's, as Debian calls it.
pub const ARCHITECTURE: &str = "arm64";

/// A folder with the files of `packages` and with the shared libraries that they depend on; fetches
/// what is not there yet. Documentation and Python are left out. Several machines of one process
/// fetch a package once.
///
/// # Errors
/// They cannot be fetched: the error is the command that mends it.
pub fn unpacked(packages: &[&str]) -> Result<PathBuf> {
    static FETCHING: Mutex<()> = Mutex::new(());
    let _alone = FETCHING.lock().map_err(|_| anyhow!("fetching failed before"))?;
    let folder = paths::target().join("debian").join(packages.join("+"));
    if !folder.is_dir() {
        let names = packages.join(", ");
        eprintln!("Fetching Debian's {names} for {ARCHITECTURE}");
        complete(&folder, |unfinished| fetch(packages, unfinished))
            .with_context(|| format!("cannot fetch Debian's {names}"))?;
    }
    Ok(folder)
}

/// Has `fill` fill `folder`, under another name first: half of it must not look like all.
///
/// # Errors
/// Those of `fill`, or the folder cannot be made.
pub fn complete(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = folder.parent().context("a folder in no folder")?;
    fs::create_dir_all(parent)?;
    let unfinished = tempfile::Builder::new().prefix("unfinished-").tempdir_in(parent)?;
    fill(unfinished.path())?;
    fs::rename(unfinished.keep(), folder)?;
    Ok(())
}

fn fetch(packages: &[&str], folder: &Path) -> Result<()> {
    let download = tempfile::tempdir()?;
    apt::download_with_dependencies(packages, ARCHITECTURE, download.path())?;
    for file in download.path().join("archives").read_dir()? {
        let file = file?.path();
        if file.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        let is_asked_for = packages.contains(&package_of(&file));
        for_each_entry(&file, |entry| {
            if is_wanted(&entry.path()?, is_asked_for) {
                entry.unpack_in(folder)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The package in a file `PACKAGE_VERSION_ARCHITECTURE.deb`.
fn package_of(file: &Path) -> &str {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.split('_').next().unwrap_or_default()
}

/// Whether a file of a package is needed.
fn is_wanted(path: &Path, package_is_asked_for: bool) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    if package_is_asked_for {
        return !["usr/share", "usr/lib/python3"].iter().any(|folder| path.starts_with(folder));
    }
    let is_library = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    let folder = path.parent().unwrap_or(path);
    is_library
        && [Path::new("lib"), Path::new("usr/lib")]
            .iter()
            .any(|libraries| folder == *libraries || folder.parent() == Some(libraries))
}

/// Calls `take` for each entry of a package.
///
/// # Errors
/// The package cannot be unpacked, or those of `take`.
pub fn for_each_entry(
    package: &Path,
    mut take: impl FnMut(&mut Entry<'_, ChildStdout>) -> Result<()>,
) -> Result<()> {
    let mut unpacker = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let stream = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let mut archive = Archive::new(stream);
    for entry in archive.entries()? {
        take(&mut entry?)?;
    }
    // It writes padding behind the archive's end, which must be taken, too.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    ensure!(unpacker.wait()?.success(), "dpkg-deb cannot unpack {}", package.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_the_libraries_they_need_are_kept() {
        let wanted = |path: &str, asked_for| is_wanted(Path::new(path), asked_for);
        assert!(wanted("./usr/lib/xen-4.17/bin/xl", true));
        assert!(!wanted("./usr/share/doc/xen-utils-4.17/copyright", true));
        assert!(!wanted("./usr/lib/xen-4.17/bin/xl", false));
        assert!(wanted("./lib/aarch64-linux-gnu/libc.so.6", false));
        assert!(wanted("./lib/ld-linux-aarch64.so.1", false));
        assert!(wanted("./usr/lib/aarch64-linux-gnu/libyajl.so.2", false));
        assert!(!wanted("./usr/lib/aarch64-linux-gnu/gconv/CP1255.so", false));
    }

    #[test]
    fn packages_are_told_by_their_files_names() {
        assert_eq!(package_of(Path::new("a/xen-utils-4.17_4.17.7+1_arm64.deb")), "xen-utils-4.17");
    }

    #[test]
    fn what_is_half_done_is_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let fail = complete(&folder, |_| anyhow::bail!("no network"));
        assert!(fail.is_err() && !folder.exists());
        complete(&folder, |path| Ok(fs::write(path.join("file"), "x")?)).unwrap();
        assert!(folder.join("file").is_file());
    }
}
