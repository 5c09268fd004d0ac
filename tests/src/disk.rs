//! Disks as the host sees them.

use std::io;
use std::path::Path;

pub use xtask::image::disk::{check_pattern, sha256};

/// The file's size in bytes.
///
/// # Errors
/// It is not there.
pub fn size(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.len())
}
