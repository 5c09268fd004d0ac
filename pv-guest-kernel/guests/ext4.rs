//! `ext4`: lists the files of its first disk, an ext4 file system, with their SHA-256.
//!
//! The disk is read into memory as a whole before it is looked at: the crate `ext4-view` reads
//! without waiting, and drivers here do wait. So the domain's memory bounds the disk.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use ext4_view::{Ext4, Ext4Error, PathBuf};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::block::SECTOR_SIZE;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::block::{BlockError, Disk};
use pv_guest_kernel::xenbus::{self, frontends};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, memory, power, println};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Requests in flight at once.
const DEPTH: usize = 16;
/// Bytes in each.
const CHUNK: usize = 128 << 10;

guest_main!(main);

/// Why it failed.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(Errno),
    #[error("this domain has no disk")]
    NoDisk,
    #[error("{0}")]
    Device(#[from] xenbus::Error),
    #[error("a disk of {disk} KiB does not fit {free} KiB: give the domain more memory")]
    TooLarge { disk: usize, free: usize },
    #[error("no buffer: {0}")]
    Buffer(#[from] Errno),
    #[error("{0}")]
    Block(#[from] BlockError),
    #[error("{0}")]
    FileSystem(#[from] Ext4Error),
}

async fn main(_: &'static Environment) {
    if let Err(error) = list().await {
        println!("ext4: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn list() -> Result<(), Error> {
    let store = Client::for_guest().map_err(Error::Store)?;
    let disks = frontends(&store, "vbd").await.map_err(Error::Store)?;
    let disk = Disk::connect(&store, disks.first().ok_or(Error::NoDisk)?).await?;
    let files = Ext4::load(Box::new(content(&disk).await?))?;
    let mut directories = Vec::from([PathBuf::new("/")]);
    while let Some(directory) = directories.pop() {
        for entry in files.read_dir(&directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if matches!(entry.file_name().as_ref(), b"." | b"..") {
                continue;
            }
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_regular_file() {
                let content = files.read(&path)?;
                let sum: [u8; 32] = Sha256::digest(&content).into();
                println!("sha256 {} {} {}", Hex(&sum), path.display(), content.len());
            } else if kind.is_symlink() {
                println!("link {} to {}", path.display(), files.read_link(&path)?.display());
            }
        }
    }
    Ok(())
}

/// All that a disk holds.
async fn content(disk: &Disk) -> Result<Vec<u8>, Error> {
    let bytes = disk.info().sectors as usize * SECTOR_SIZE;
    let (used, all) = memory::heap_usage();
    // A file is read beside it.
    let free = all.saturating_sub(used) / 2;
    if bytes > free {
        return Err(Error::TooLarge { disk: bytes >> 10, free: free >> 10 });
    }
    let mut content = vec![0; bytes];
    let most = CHUNK.min(disk.info().transfer_max());
    let read = async |(index, part): (usize, &mut [u8])| {
        let sector = (index * most / SECTOR_SIZE) as u64;
        let buffer = disk.read(sector, disk.buffer(part.len())?).await?;
        buffer.copy_to(part);
        Ok::<(), Error>(())
    };
    let parts = stream::iter(content.chunks_mut(most).enumerate());
    parts.map(read).buffer_unordered(DEPTH).try_collect::<()>().await?;
    Ok(content)
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
