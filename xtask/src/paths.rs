//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds for the host.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Target folder of the bare-metal build. Its own, because another compiler may fill it.
pub fn bare_target() -> PathBuf {
    target().join("bare")
}

/// Where the flat images go.
pub fn images() -> PathBuf {
    bare_target().join("images")
}

/// Where running machines are announced.
pub fn running() -> PathBuf {
    target().join("running")
}

/// The domain files that are shipped.
pub fn domain_files() -> PathBuf {
    root().join("dom0/domains")
}
