//! `hash`: prints the SHA-256 of each of its disks.
//!
//! With `write=PATTERN` on its command line it first fills each disk with that text, again and
//! again, and flushes.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::block::SECTOR_SIZE;
use pv_guest_kernel::abi::sched::ShutdownReason;
use pv_guest_kernel::block::{BlockError, Disk};
use pv_guest_kernel::xenbus::{self, frontends};
use pv_guest_kernel::xenstore::Client;
use pv_guest_kernel::{Environment, guest_main, power, println};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Requests in flight at once.
const DEPTH: usize = 16;
/// Bytes in each: many segments, and few enough requests to keep the disk busy.
const CHUNK: usize = 128 << 10;

guest_main!(main);

/// Why it failed.
#[derive(Debug, Error)]
enum Error {
    #[error("no store: {0}")]
    Store(Errno),
    #[error("{0}")]
    Device(#[from] xenbus::Error),
    #[error("no buffer: {0}")]
    Buffer(#[from] Errno),
    #[error("{0}")]
    Block(#[from] BlockError),
}

async fn main(environment: &'static Environment) {
    if let Err(error) = hash_all(environment.argument("write")).await {
        println!("hash: {error}");
        power::shutdown(ShutdownReason::Crash);
    }
}

async fn hash_all(pattern: Option<&str>) -> Result<(), Error> {
    let store = Client::for_guest().map_err(Error::Store)?;
    let disks = frontends(&store, "vbd").await.map_err(Error::Store)?;
    if disks.is_empty() {
        println!("hash: this domain has no disk");
    }
    for path in disks {
        let disk = Disk::connect(&store, &path).await?;
        if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
            fill(&disk, pattern.as_bytes()).await?;
            disk.flush().await?;
        }
        let digest = hash(&disk).await?;
        let bytes = disk.info().sectors * SECTOR_SIZE as u64;
        println!("sha256 {} {} {bytes}", Hex(&digest), disk.name());
    }
    Ok(())
}

/// The disk in pieces of a full request: first sector and bytes of each.
fn chunks(disk: &Disk) -> impl Iterator<Item = (u64, usize)> {
    let sectors = disk.info().sectors;
    let most = CHUNK.min(disk.info().transfer_max()) / SECTOR_SIZE;
    (0..sectors).step_by(most).map(move |first| {
        let count = (most as u64).min(sectors - first);
        (first, count as usize * SECTOR_SIZE)
    })
}

/// Writes the pattern over the whole disk, many requests at a time.
async fn fill(disk: &Disk, pattern: &[u8]) -> Result<(), Error> {
    let write = async |(sector, length): (u64, usize)| {
        let mut buffer = disk.buffer(length)?;
        let phase = (sector as usize * SECTOR_SIZE) % pattern.len();
        let data: vec::Vec<u8> = pattern.iter().cycle().skip(phase).take(length).copied().collect();
        buffer.copy_from(&data);
        disk.write(sector, buffer).await?;
        Ok::<(), Error>(())
    };
    stream::iter(chunks(disk)).map(write).buffer_unordered(DEPTH).try_collect().await
}

/// Reads the whole disk, many requests at a time, and hashes what they bring in order.
async fn hash(disk: &Disk) -> Result<[u8; 32], Error> {
    let read = async |(sector, length): (u64, usize)| {
        let buffer = disk.buffer(length)?;
        Ok::<_, Error>(disk.read(sector, buffer).await?)
    };
    let mut buffers = core::pin::pin!(stream::iter(chunks(disk)).map(read).buffered(DEPTH));
    let mut hasher = Sha256::new();
    let mut data = vec![0; CHUNK];
    while let Some(buffer) = buffers.try_next().await? {
        buffer.copy_to(&mut data);
        hasher.update(&data[..buffer.length()]);
    }
    Ok(hasher.finalize().into())
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
