//! Tests of kernel images, hostile ones above all.

use proptest::prelude::*;

use super::*;

const RAM: Range<u64> = 0x4000_0000..0x4100_0000;

fn arm64(text_offset: u64, image_size: u64, flags: u64, length: usize) -> Vec<u8> {
    let mut file = vec![0xAA; length.max(64)];
    file[8..16].copy_from_slice(&text_offset.to_le_bytes());
    file[16..24].copy_from_slice(&image_size.to_le_bytes());
    file[24..32].copy_from_slice(&flags.to_le_bytes());
    file[56..60].copy_from_slice(b"ARM\x64");
    file
}

#[derive(Clone, Copy, Debug)]
struct Load {
    offset: u64,
    virtual_address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
}

fn elf(kind: u16, entry: u64, loads: &[Load], length: usize) -> Vec<u8> {
    let mut file = vec![0x55; length.max(64 + loads.len() * 56)];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file[16..18].copy_from_slice(&kind.to_le_bytes());
    file[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
    file[20..24].copy_from_slice(&1u32.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[40..52].fill(0);
    file[52..54].copy_from_slice(&64u16.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&(loads.len() as u16).to_le_bytes());
    file[58..64].fill(0);
    for (index, load) in loads.iter().enumerate() {
        let header = &mut file[64 + index * 56..][..56];
        header[0..4].copy_from_slice(&PT_LOAD.to_le_bytes());
        header[4..8].copy_from_slice(&5u32.to_le_bytes());
        let words = [
            load.offset,
            load.virtual_address,
            load.physical,
            load.file_size,
            load.memory_size,
            0x1000,
        ];
        for (word, slot) in words.iter().zip(header[8..].chunks_mut(8)) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
    }
    file
}

#[test]
fn an_arm64_image_goes_to_its_offset() {
    let file = arm64(0x1000, 0x20_0000, 0, 5000);
    let image = Image::parse(&file, &RAM).unwrap();
    assert_eq!(image.entry, RAM.start + 0x1000);
    assert_eq!(image.segments, [Segment { address: image.entry, bytes: &file }]);
    assert_eq!(image.end, image.entry + 0x20_0000);
}

#[test]
fn an_old_arm64_image_has_the_old_offset() {
    let file = arm64(0x1234, 0, 0, 5000);
    let image = Image::parse(&file, &RAM).unwrap();
    assert_eq!((image.entry, image.end), (RAM.start + 0x8_0000, RAM.start + 0x8_0000 + 5000));
}

#[test]
fn hostile_arm64_headers_are_refused() {
    let parse = |text_offset, image_size, flags| {
        Image::parse(&arm64(text_offset, image_size, flags, 64), &RAM).map(drop)
    };
    assert_eq!(parse(u64::MAX, 1, 0), Err(ImageError::Damaged));
    assert_eq!(parse(0, u64::MAX, 0), Err(ImageError::Damaged));
    assert_eq!(parse(0, 4096, 1), Err(ImageError::BigEndian));
    assert!(matches!(parse(0, 0x100_0001, 0), Err(ImageError::Outside { .. })));
    assert!(matches!(parse(0x100_0000, 1, 0), Err(ImageError::Outside { .. })));
}

#[test]
fn a_position_independent_elf_goes_to_the_start_of_ram() {
    let loads = [
        Load { offset: 0, virtual_address: 0, physical: 0, file_size: 300, memory_size: 300 },
        Load {
            offset: 300,
            virtual_address: 0x2000,
            physical: 0x2000,
            file_size: 100,
            memory_size: 0x3000,
        },
    ];
    let file = elf(ET_DYN, 0x80, &loads, 400);
    let image = Image::parse(&file, &RAM).unwrap();
    assert_eq!(image.entry, RAM.start + 0x80);
    assert_eq!(image.end, RAM.start + 0x5000);
    assert_eq!(image.segments[1], Segment { address: RAM.start + 0x2000, bytes: &file[300..] });
}

#[test]
fn a_fixed_elf_goes_where_it_was_linked() {
    let load = Load {
        offset: 128,
        virtual_address: 0xFFFF_0000_0000_0000,
        physical: RAM.start + 0x10_0000,
        file_size: 64,
        memory_size: 64,
    };
    let file = elf(ET_EXEC, load.virtual_address + 4, &[load], 192);
    let image = Image::parse(&file, &RAM).unwrap();
    assert_eq!(image.entry, load.physical + 4);
    let low = Load { physical: 0, ..load };
    let file = elf(ET_EXEC, load.virtual_address, &[low], 192);
    assert!(matches!(Image::parse(&file, &RAM), Err(ImageError::Outside { start: 0, .. })));
}

#[test]
fn hostile_elf_headers_are_refused() {
    let good =
        Load { offset: 0, virtual_address: 0, physical: 0, file_size: 100, memory_size: 100 };
    let parse = |kind, entry, loads: &[Load]| {
        Image::parse(&elf(kind, entry, loads, 200), &RAM).map(drop).unwrap_err()
    };
    assert_eq!(parse(ET_DYN, 0, &[]), ImageError::Empty);
    assert_eq!(parse(ET_DYN, 100, &[good]), ImageError::Entry);
    assert_eq!(parse(1, 0, &[good]), ImageError::NotAProgram);
    let beyond = Load { offset: 150, ..good };
    assert_eq!(parse(ET_DYN, 0, &[beyond]), ImageError::DamagedElf);
    let wrapping = Load { offset: u64::MAX, ..good };
    assert_eq!(parse(ET_DYN, 0, &[wrapping]), ImageError::DamagedElf);
    let shrunk = Load { memory_size: 50, ..good };
    assert_eq!(parse(ET_DYN, 0, &[shrunk]), ImageError::Damaged);
    let huge = Load { memory_size: u64::MAX, ..good };
    assert_eq!(parse(ET_DYN, 0, &[huge]), ImageError::Damaged);
    let far = Load { physical: u64::MAX - 8, ..good };
    assert!(matches!(parse(ET_DYN, 0, &[good, far]), ImageError::Outside { .. }));
    assert!(matches!(parse(ET_EXEC, 0, &[far]), ImageError::Damaged));
}

#[test]
fn other_files_are_refused() {
    let parse = |file: &[u8]| Image::parse(file, &RAM).map(drop).unwrap_err();
    assert_eq!(parse(b""), ImageError::Format);
    assert_eq!(parse(b"#!/bin/sh\n"), ImageError::Format);
    assert_eq!(parse(b"\x7fELF"), ImageError::DamagedElf);
    let mut x86 = elf(ET_DYN, 0, &[], 64);
    x86[18] = 62;
    assert_eq!(parse(&x86), ImageError::Machine(62));
}

/// Whatever an image says, what is to be copied lies in RAM and so does the entry.
fn check(file: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(image) = Image::parse(file, &RAM) {
        prop_assert!(RAM.contains(&image.entry));
        prop_assert!((RAM.start..=RAM.end).contains(&image.end));
        for segment in &image.segments {
            prop_assert!(segment.address >= RAM.start);
            prop_assert!(segment.address + segment.bytes.len() as u64 <= image.end);
        }
    }
    Ok(())
}

/// Numbers near the places where mistakes live.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![0..0x2000u64, Just(RAM.start), Just(RAM.end), any::<u64>(), (u64::MAX - 64)..]
}

proptest! {
    #[test]
    fn any_bytes(file in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&file)?;
    }

    #[test]
    fn any_arm64_header(text_offset in edge(), image_size in edge(), flags: u64) {
        check(&arm64(text_offset, image_size, flags & !1, 4096))?;
    }

    #[test]
    fn any_elf_headers(
        dynamic: bool,
        entry in edge(),
        numbers in prop::collection::vec((edge(), edge(), edge(), edge(), edge()), 0..4),
    ) {
        let loads: Vec<Load> = numbers
            .into_iter()
            .map(|(offset, virtual_address, physical, file_size, memory_size)| Load {
                offset, virtual_address, physical, file_size, memory_size,
            })
            .collect();
        check(&elf(if dynamic { ET_DYN } else { ET_EXEC }, entry, &loads, 4096))?;
    }

    #[test]
    fn a_good_elf_with_one_byte_changed(position in 0usize..232, byte: u8) {
        let load =
            Load { offset: 0, virtual_address: 0, physical: 0, file_size: 200, memory_size: 300 };
        let mut file = elf(ET_DYN, 4, &[load, load], 232);
        file[position] = byte;
        check(&file)?;
    }
}
