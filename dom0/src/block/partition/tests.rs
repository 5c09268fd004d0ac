//! Tables that are right, that are damaged, and that are noise.

use futures_util::future::FutureExt;
use gpt_disk_types::{GptHeaderSignature, GptPartitionType, LbaLe, MbrPartitionRecord, U32Le};
use proptest::prelude::*;

use super::*;

const SECTORS: u64 = 4096;

/// Looks for a partition on a disk that begins with these bytes.
fn look(bytes: &[u8], number: u32) -> Result<Range<u64>, PartitionError> {
    let read = async |sector: u64, count: usize| {
        let at = sector as usize * SECTOR_SIZE;
        let mut sectors = vec![0; count * SECTOR_SIZE];
        let there = bytes.get(at..).unwrap_or_default();
        let length = there.len().min(sectors.len());
        sectors[..length].copy_from_slice(&there[..length]);
        Some(sectors)
    };
    find(number, SECTORS, read).now_or_never().unwrap()
}

fn mbr(entries: &[(usize, u8, u32, u32)]) -> Vec<u8> {
    let mut record: MasterBootRecord = bytemuck::Zeroable::zeroed();
    record.signature = SIGNATURE;
    for &(index, kind, first, count) in entries {
        record.partitions[index] = MbrPartitionRecord {
            os_indicator: kind,
            starting_lba: U32Le::from_u32(first),
            size_in_lba: U32Le::from_u32(count),
            ..Default::default()
        };
    }
    bytemuck::bytes_of(&record).to_vec()
}

/// A GPT whose second entry is these sectors.
fn gpt(first: u64, last: u64) -> Vec<u8> {
    let mut disk = mbr(&[(0, PROTECTIVE, 1, SECTORS as u32 - 1)]);
    let mut header = GptHeader {
        signature: GptHeaderSignature::EFI_COMPATIBLE_PARTITION_TABLE_HEADER,
        partition_entry_lba: LbaLe::from_u64(2),
        number_of_partition_entries: U32Le::from_u32(128),
        size_of_partition_entry: U32Le::from_u32(128),
        ..Default::default()
    };
    header.update_header_crc32();
    disk.extend_from_slice(bytemuck::bytes_of(&header));
    disk.resize(2 * SECTOR_SIZE, 0);
    let entry = GptPartitionEntry {
        partition_type_guid: GptPartitionType::BASIC_DATA,
        starting_lba: LbaLe::from_u64(first),
        ending_lba: LbaLe::from_u64(last),
        ..Default::default()
    };
    disk.resize(disk.len() + 128, 0);
    disk.extend_from_slice(bytemuck::bytes_of(&entry));
    disk
}

#[test]
fn entries_of_an_mbr() {
    let disk = mbr(&[(2, 0x83, 64, 1024), (3, 0x83, 4000, 97)]);
    assert_eq!(look(&disk, 3), Ok(64..1088));
    assert_eq!(look(&disk, 1), Err(PartitionError::Absent(1)));
    assert_eq!(look(&disk, 5), Err(PartitionError::Absent(5)));
    assert_eq!(look(&disk, 4), Err(PartitionError::BeyondEnd(4)));
    assert_eq!(look(&[0; 512], 1), Err(PartitionError::NoTable));
}

#[test]
fn entries_of_a_gpt() {
    let disk = gpt(34, 2047);
    assert_eq!(look(&disk, 2), Ok(34..2048));
    for absent in [1, 3, 128, 129] {
        assert_eq!(look(&disk, absent), Err(PartitionError::Absent(absent)));
    }
    for (first, last) in [(34, SECTORS), (100, 98), (34, u64::MAX)] {
        assert_eq!(look(&gpt(first, last), 2), Err(PartitionError::BeyondEnd(2)));
    }
}

#[test]
fn a_damaged_header_is_not_believed() {
    for place in [512, 512 + 16, 512 + 72, 512 + 80] {
        let mut disk = gpt(34, 2047);
        disk[place] ^= 1;
        assert_eq!(look(&disk, 2), Err(PartitionError::Damaged), "byte {place}");
    }
}

proptest! {
    #[test]
    fn whatever_a_disk_says_the_range_is_on_it(
        noise in prop::collection::vec(any::<u8>(), 1200),
        lba in prop_oneof![0..5000_u64, any::<u64>()],
        number in prop_oneof![0..200_u32, any::<u32>()],
        protective: bool,
    ) {
        let mut disk = noise;
        disk[510..512].copy_from_slice(&SIGNATURE);
        if protective {
            let mut header: GptHeader = at(&gpt(1, 2), SECTOR_SIZE).unwrap();
            header.partition_entry_lba = LbaLe::from_u64(lba);
            header.update_header_crc32();
            disk[450] = PROTECTIVE;
            disk[512..512 + size_of::<GptHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        }
        if let Ok(range) = look(&disk, number) {
            prop_assert!(range.start < range.end && range.end <= SECTORS);
        }
    }
}
