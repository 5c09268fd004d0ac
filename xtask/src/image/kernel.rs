//! Kernels that the user brings: read from a file, unpacked if they are compressed, and looked at,
//! so that what cannot boot is told before the machine starts.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use object::LittleEndian as LE;
use object::pe::{IMAGE_FILE_MACHINE_ARM64, ImageDosHeader, ImageNtHeaders64};
use object::read::pe::ImageNtHeaders;

use super::ImageKind;

const GZIP_MAGIC: &[u8] = b"\x1f\x8b";
/// An EFI program that unpacks a kernel (Linux, drivers/firmware/efi/libstub/zboot-header.S).
const ZBOOT_MAGIC: (usize, &[u8]) = (4, b"zimg");
/// In its header: where the packed kernel begins, how long it is, and the name of the packer.
const ZBOOT_PAYLOAD: [usize; 2] = [8, 12];
const ZBOOT_PACKER: (usize, &[u8]) = (24, b"gzip");
/// More than a kernel unpacks to.
const LARGEST: u64 = 1 << 30;

/// The kernel in the file at `path`: an arm64 Image or an ELF file.
///
/// # Errors
/// It cannot be read, is in no known format, for another machine, or cut short.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let path_text = path.display();
    let bytes = fs::read(path).with_context(|| format!("cannot read {path_text}"))?;
    unpack(bytes)
        .and_then(|kernel| check(&kernel).map(|()| kernel))
        .with_context(|| format!("{path_text} is no kernel for a guest"))
}

fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.starts_with(GZIP_MAGIC) {
        return gunzip(&bytes);
    }
    if !has(&bytes, ZBOOT_MAGIC) {
        return Ok(bytes);
    }
    ensure!(has(&bytes, ZBOOT_PACKER), "it is packed, and not with gzip; unpack it first");
    let [start, size] = ZBOOT_PAYLOAD.map(|at| word(&bytes, at));
    let payload = bytes.get(start..).and_then(|rest| rest.get(..size));
    gunzip(payload.context("it is cut short: the packed kernel in it ends too early")?)
}

fn gunzip(packed: &[u8]) -> Result<Vec<u8>> {
    let mut kernel = Vec::new();
    GzDecoder::new(packed)
        .take(LARGEST)
        .read_to_end(&mut kernel)
        .context("it cannot be unpacked; it may be cut short")?;
    Ok(kernel)
}

fn check(kernel: &[u8]) -> Result<()> {
    match ImageKind::of(kernel) {
        // dom0 reads all of its headers.
        Some(ImageKind::Elf) => Ok(()),
        Some(ImageKind::Flat) if kernel.starts_with(b"MZ") => check_efi_program(kernel),
        Some(ImageKind::Flat) => Ok(()),
        None if kernel.starts_with(b"MZ") => {
            check_efi_program(kernel)?;
            bail!("it is an EFI program, but not an arm64 Image")
        }
        None => bail!("it is neither an arm64 Image nor an ELF file"),
    }
}

/// Linux's image is an EFI program, too, and as such says for which machine it is and how long.
fn check_efi_program(kernel: &[u8]) -> Result<()> {
    let broken = "its EFI headers are damaged";
    let mut offset = ImageDosHeader::parse(kernel).context(broken)?.nt_headers_offset().into();
    let (headers, _) = ImageNtHeaders64::parse(kernel, &mut offset).context(broken)?;
    let machine = headers.file_header().machine.get(LE);
    if machine != IMAGE_FILE_MACHINE_ARM64 {
        let names = match machine {
            object::pe::IMAGE_FILE_MACHINE_AMD64 => " (x86-64)",
            object::pe::IMAGE_FILE_MACHINE_ARMNT | object::pe::IMAGE_FILE_MACHINE_THUMB => {
                " (32-bit Arm)"
            }
            _ => "",
        };
        bail!("it is for another machine: {machine:#x}{names}, and AArch64 is 0xaa64");
    }
    let sections = headers.sections(kernel, offset).context(broken)?;
    let ends = sections.iter().map(|section| {
        u64::from(section.pointer_to_raw_data.get(LE)) + u64::from(section.size_of_raw_data.get(LE))
    });
    let (size, wanted) = (kernel.len() as u64, ends.max().unwrap_or(0));
    ensure!(size >= wanted, "it is cut short: it has {size} bytes of {wanted}");
    Ok(())
}

fn has(bytes: &[u8], (offset, magic): (usize, &[u8])) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// The little-endian word at an offset; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map_or(0, |word| u32::from_le_bytes(*word) as usize)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const MACHINE_AT: usize = 0x44;

    /// An arm64 Image that is an EFI program with one section of 0x200 bytes at 0x200.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x400];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(56, b"ARM\x64");
        put(60, &[0x40]);
        put(0x40, b"PE\0\0");
        put(MACHINE_AT, &[0x64, 0xaa]);
        put(0x46, &[1]);
        // The optional header, its size and its kind.
        put(0x54, &[112]);
        put(0x58, &[0x0b, 0x02]);
        let section = 0x58 + 112;
        put(section + 16, &0x200_u32.to_le_bytes());
        put(section + 20, &0x200_u32.to_le_bytes());
        image
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zboot(payload: &[u8]) -> Vec<u8> {
        let mut program = b"MZ\0\0zimg".to_vec();
        program.extend(64_u32.to_le_bytes());
        program.extend((payload.len() as u32).to_le_bytes());
        program.extend([0; 8]);
        program.extend(b"gzip");
        program.resize(64, 0);
        program.extend(payload);
        program
    }

    fn reason(kernel: Vec<u8>) -> String {
        let kernel = unpack(kernel).and_then(|kernel| check(&kernel));
        format!("{:#}", kernel.unwrap_err())
    }

    #[test]
    fn compressed_kernels_are_unpacked() {
        for file in [image(), packed(&image()), zboot(&packed(&image()))] {
            let kernel = unpack(file).unwrap();
            assert_eq!(kernel, image());
            check(&kernel).unwrap();
        }
    }

    #[test]
    fn what_cannot_boot_is_told() {
        assert!(reason(image()[..0x3f0].to_vec()).contains("cut short: it has 1008 bytes of 1024"));
        assert!(reason(image()[..0x80].to_vec()).contains("damaged"));
        let mut other = image();
        other[MACHINE_AT..MACHINE_AT + 2].copy_from_slice(&[0x64, 0x86]);
        assert!(reason(other.clone()).contains("x86-64"));
        other[56] = 0;
        assert!(reason(other).contains("x86-64"));
        let half = packed(&image())[..20].to_vec();
        assert!(reason(half.clone()).contains("cut short"));
        assert!(reason(zboot(&half)).contains("cut short"));
        assert!(reason(b"#!/bin/sh".to_vec()).contains("neither"));
        let mut other_packer = zboot(&[0; 9]);
        other_packer[24] = b'x';
        assert!(reason(other_packer).contains("not with gzip"));
    }
}
