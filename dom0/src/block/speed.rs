//! How fast dom0 itself is on a real disk, to compare guests with.

use alloc::vec::Vec;
use core::time::Duration;

use abi::block::SECTOR_SIZE;
use abi::{DomId, PAGE_SIZE};
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::time;
use thiserror::Error;

use super::disk::IoError;
use super::disks::{Claim, ClaimError, Mode, find};
use super::queue::Operation;
use super::target::Target;
use crate::virtio::{Span, bus_address};

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

/// Moves `count` blocks of `size` bytes, one after the other, and returns the time that takes, and
/// the median of one. What a write writes is zeroes.
///
/// # Errors
/// As [`SpeedError`] says.
pub async fn measure(
    target: &Target,
    write: bool,
    size: usize,
    count: u64,
) -> Result<(Duration, Duration), SpeedError> {
    let &Target::Disk { ref disk, part } = target else { return Err(SpeedError::NotReal) };
    let (mode, operation) = match write {
        true => (Mode::ReadWrite, Operation::Write),
        false => (Mode::ReadOnly, Operation::Read),
    };
    let (_claim, extent) = Claim::new(&find(disk, part).await?, DomId::DOM0, mode)?;
    let sectors = (size / SECTOR_SIZE) as u64;
    if sectors == 0 || sectors > extent.sectors {
        return Err(SpeedError::TooLong);
    }
    let pages = SharedPage::allocate_run(size.div_ceil(PAGE_SIZE));
    let pages = pages.map_err(|_| SpeedError::Memory)?;
    let address = pages.first().map_or(0, bus_address);
    let length = u32::try_from(size).map_err(|_| SpeedError::TooLong)?;
    let (start, mut times) = (time::now(), Vec::new());
    for block in 0..count {
        let sector = block % (extent.sectors / sectors) * sectors;
        let before = time::now();
        let spans = [Span { address, length }];
        let transfer =
            extent.disk.transfer(operation, extent.first + sector, &spans, pages.clone());
        transfer.await.map_err(|_: IoError| SpeedError::Io(sector))?;
        times.push(time::now().saturating_sub(before));
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((time::now().saturating_sub(start), median))
}
