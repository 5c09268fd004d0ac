//! How fast dom0 itself is on a real disk, to compare guests with.

use alloc::vec::Vec;
use core::time::Duration;

use abi::block::SECTOR_SIZE;
use abi::{DomId, PAGE_SIZE};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::time;
use thiserror::Error;

use super::disk::IoError;
use super::disks::{Claim, ClaimError, Mode, find};
use super::queue::Operation;
use super::target::Target;
use crate::virtio::{Span, bus_address};

/// Transfers at once, at most.
const MAX_DEPTH: usize = 64;

/// Why it could not be measured.
#[derive(Debug, Error)]
pub enum SpeedError {
    /// The disk cannot be used.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It is in dom0's memory.
    #[error("only a disk of the machine can be measured")]
    NotReal,
    /// There is less of it.
    #[error("there are not so many bytes")]
    TooLong,
    /// No memory for the data.
    #[error("out of memory")]
    Memory,
    /// A transfer failed.
    #[error("sector {0}: the device reports an error")]
    Io(u64),
}

/// What is to be moved.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Zeroes to the disk, or what there is from it.
    pub write: bool,
    /// Bytes of a block.
    pub size: usize,
    /// How many blocks, one after the other.
    pub count: u64,
    /// How many at once.
    pub depth: usize,
}

/// Moves blocks of a disk, and returns the time that takes, and the median of one.
///
/// # Errors
/// As [`SpeedError`] says.
pub async fn measure(target: &Target, work: Work) -> Result<(Duration, Duration), SpeedError> {
    let &Target::Disk { ref disk, part } = target else { return Err(SpeedError::NotReal) };
    let Work { write, size, count, depth } = work;
    let (mode, operation) = match write {
        true => (Mode::ReadWrite, Operation::Write),
        false => (Mode::ReadOnly, Operation::Read),
    };
    let (_claim, extent) = Claim::new(&find(disk, part).await?, DomId::DOM0, mode)?;
    let sectors = (size / SECTOR_SIZE) as u64;
    if sectors == 0 || sectors > extent.sectors {
        return Err(SpeedError::TooLong);
    }
    // Each has memory of its own, so that dom0 has no advantage of the host's caches.
    let depth = depth.clamp(1, MAX_DEPTH);
    let memory = |_| SharedPage::allocate_run(size.div_ceil(PAGE_SIZE));
    let memory: Vec<Vec<SharedPage>> =
        (0..depth).map(memory).collect::<Result<_, _>>().map_err(|_| SpeedError::Memory)?;
    let length = u32::try_from(size).map_err(|_| SpeedError::TooLong)?;
    let transfer = async |block: u64| {
        let sector = block % (extent.sectors / sectors) * sectors;
        let pages = memory.get(block as usize % depth).cloned().unwrap_or_default();
        let spans = [Span { address: pages.first().map_or(0, bus_address), length }];
        let before = time::now();
        let done = extent.disk.transfer(operation, extent.first + sector, &spans, pages);
        done.await.map_err(|_: IoError| SpeedError::Io(sector))?;
        Ok::<_, SpeedError>(time::now().saturating_sub(before))
    };
    let start = time::now();
    let blocks = stream::iter(0..count).map(transfer).buffer_unordered(depth);
    let mut times: Vec<Duration> = blocks.try_collect().await?;
    let elapsed = time::now().saturating_sub(start);
    times.sort_unstable();
    Ok((elapsed, times.get(times.len() / 2).copied().unwrap_or_default()))
}
