//! Finds a partition: GPT (UEFI 2.10, chapter 5), or else the four entries of an MBR.
//!
//! The table is the content of a disk that a guest may have written: it is checked like a guest's
//! word.

use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::Range;

use abi::block::SECTOR_SIZE;
use bytemuck::{AnyBitPattern, pod_read_unaligned};
use gpt_disk_types::{GptHeader, GptPartitionEntry, MasterBootRecord};
use thiserror::Error;

/// Kind of the one entry in an MBR that is there for those who do not know GPT.
const PROTECTIVE: u8 = 0xee;
/// What ends an MBR.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// Why a partition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// There is no partition table.
    #[error("it has no partition table")]
    NoTable,
    /// There is one, but it is damaged.
    #[error("its partition table is damaged")]
    Damaged,
    /// The table has no such entry.
    #[error("it has no partition {0}")]
    Absent(u32),
    /// The table says what cannot be.
    #[error("its partition {0} is not on the disk")]
    BeyondEnd(u32),
    /// The table cannot be read.
    #[error("its partition table cannot be read")]
    Unreadable,
}

/// The sectors of a partition; `read` reads so many sectors from one on.
pub(super) async fn find(
    number: u32,
    sectors: u64,
    read: impl AsyncFn(u64, usize) -> Option<Vec<u8>>,
) -> Result<Range<u64>, PartitionError> {
    let unreadable = PartitionError::Unreadable;
    let first = read(0, 2).await.ok_or(unreadable.clone())?;
    let record: MasterBootRecord = at(&first, 0).ok_or(unreadable.clone())?;
    if record.signature != SIGNATURE {
        return Err(PartitionError::NoTable);
    }
    let range = if record.partitions.iter().any(|entry| entry.os_indicator == PROTECTIVE) {
        let header: GptHeader = at(&first, SECTOR_SIZE).ok_or(unreadable.clone())?;
        let place = entry_place(&header, number)?;
        let sector = place / SECTOR_SIZE as u64;
        if sector >= sectors {
            return Err(PartitionError::Damaged);
        }
        let bytes = read(sector, 2).await.ok_or(unreadable)?;
        let entry = at(&bytes, (place % SECTOR_SIZE as u64) as usize);
        gpt_range(&entry.ok_or(PartitionError::Damaged)?, number)?
    } else {
        mbr_range(&record, number)?
    };
    match range.start < range.end && range.end <= sectors {
        true => Ok(range),
        false => Err(PartitionError::BeyondEnd(number)),
    }
}

/// Where on the disk, in bytes, an entry is.
fn entry_place(header: &GptHeader, number: u32) -> Result<u64, PartitionError> {
    if !header.is_signature_valid() || header.calculate_header_crc32() != header.header_crc32 {
        return Err(PartitionError::Damaged);
    }
    let index = number.saturating_sub(1);
    if index >= header.number_of_partition_entries.to_u32() {
        return Err(PartitionError::Absent(number));
    }
    let size = header.size_of_partition_entry.to_u32();
    if (size as usize) < size_of::<GptPartitionEntry>() || size as usize > SECTOR_SIZE {
        return Err(PartitionError::Damaged);
    }
    let table = header.partition_entry_lba.to_u64().checked_mul(SECTOR_SIZE as u64);
    let place = table.and_then(|table| table.checked_add(u64::from(index) * u64::from(size)));
    place.ok_or(PartitionError::Damaged)
}

fn gpt_range(entry: &GptPartitionEntry, number: u32) -> Result<Range<u64>, PartitionError> {
    if !entry.is_used() {
        return Err(PartitionError::Absent(number));
    }
    let end = entry.ending_lba.to_u64().checked_add(1);
    Ok(entry.starting_lba.to_u64()..end.ok_or(PartitionError::BeyondEnd(number))?)
}

fn mbr_range(record: &MasterBootRecord, number: u32) -> Result<Range<u64>, PartitionError> {
    let absent = PartitionError::Absent(number);
    let index = number.checked_sub(1).ok_or(absent.clone())? as usize;
    let partitions = record.partitions;
    let entry = partitions.get(index).filter(|entry| entry.os_indicator != 0).ok_or(absent)?;
    let start = u64::from(entry.starting_lba.to_u32());
    Ok(start..start + u64::from(entry.size_in_lba.to_u32()))
}

/// The structure at an offset of these bytes.
fn at<T: AnyBitPattern>(bytes: &[u8], offset: usize) -> Option<T> {
    bytes.get(offset..)?.get(..size_of::<T>()).map(pod_read_unaligned)
}

#[cfg(test)]
mod tests;
