//! Flat kernel images: what an ELF file's loaded segments look like in memory, behind the 64-byte
//! header of the arm64 boot protocol (Linux, Documentation/arch/arm64/booting.rst).

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSegment};

use super::Symbols;

/// Where the header's magic number stands, and what it is.
const MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
/// The section of an image that holds its own symbols.
const SYMBOLS_SECTION: &str = ".symbols";

/// A kernel image.
#[derive(Debug)]
pub struct FlatImage {
    /// What is loaded.
    pub bytes: Vec<u8>,
    /// Bytes of memory that it takes, zero-initialised data included.
    pub memory_size: u64,
}

/// Formats of kernel images that dom0 can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// With the header of the arm64 boot protocol.
    Flat,
    /// ELF.
    Elf,
}

impl ImageKind {
    /// The format of the image that starts with `bytes`.
    pub fn of(bytes: &[u8]) -> Option<ImageKind> {
        let (offset, magic) = MAGIC;
        if bytes.starts_with(b"\x7fELF") {
            Some(ImageKind::Elf)
        } else if bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            Some(ImageKind::Flat)
        } else {
            None
        }
    }
}

impl FlatImage {
    /// Flattens the ELF file `elf`, which is linked at address 0. If it has a section for its own
    /// symbols, they are put there.
    ///
    /// # Errors
    /// It is no such file, has no arm64 header, or the symbols do not fit.
    pub fn from_elf(elf: &[u8]) -> Result<FlatImage> {
        let file: ElfFile64 = ElfFile64::parse(elf).context("not an ELF file")?;
        let mut bytes = Vec::new();
        let mut memory_size = 0;
        for segment in file.segments() {
            place(&mut bytes, segment.address(), segment.data()?)?;
            memory_size = memory_size.max(segment.address() + segment.size());
        }
        let kind = ImageKind::of(&bytes);
        ensure!(kind == Some(ImageKind::Flat), "its first bytes are not an arm64 image header");
        if let Some(section) = file.section_by_name(SYMBOLS_SECTION) {
            let blob = Symbols::from_elf(&file).to_blob();
            let room = section.size();
            if blob.len() as u64 > room {
                bail!("its symbols take {} bytes, but {SYMBOLS_SECTION} has {room}", blob.len());
            }
            place(&mut bytes, section.address(), &blob)?;
        }
        Ok(FlatImage { bytes, memory_size })
    }
}

/// Copies `data` to `address`, growing `bytes` with zeros.
fn place(bytes: &mut Vec<u8>, address: u64, data: &[u8]) -> Result<()> {
    let start = usize::try_from(address)?;
    let end = start.checked_add(data.len()).filter(|end| *end < 1 << 30);
    let end = end.with_context(|| format!("a segment at {address:#x}: not linked at 0"))?;
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_images() {
        let mut image = vec![0; 64];
        assert_eq!(ImageKind::of(&image), None);
        image[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(ImageKind::of(&image), Some(ImageKind::Flat));
        assert_eq!(ImageKind::of(&image[..58]), None);
        assert_eq!(ImageKind::of(b"\x7fELF\x02"), Some(ImageKind::Elf));
    }

    #[test]
    fn segments_go_where_they_belong() {
        let mut bytes = Vec::new();
        place(&mut bytes, 4, b"later").unwrap();
        place(&mut bytes, 0, b"12").unwrap();
        assert_eq!(bytes, b"12\0\0later");
        assert!(place(&mut bytes, 0xffff_0000_0000_0000, b"x").is_err());
    }

    #[test]
    fn other_files_are_refused() {
        assert!(FlatImage::from_elf(b"#!/bin/sh").is_err());
        let host = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(FlatImage::from_elf(&host).is_err(), "a program of this machine was taken");
    }
}
