//! Kernel images: what of a file goes where in a guest's memory.
//!
//! Two formats: the arm64 Image (Linux, Documentation/arch/arm64/booting.rst) and ELF. The file
//! comes from whoever built the guest and is not trusted: every number in it is checked before it
//! is used, and what [`Image::parse`] returns lies inside the guest's RAM.

use alloc::vec::Vec;
use core::ops::Range;

use elf::{
    ElfBytes, ParseError,
    abi::{EM_AARCH64, ET_DYN, ET_EXEC, PT_LOAD},
    endian::LittleEndian,
    segment::ProgramHeader,
};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A kernel ready to be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Guest-physical address of the first instruction.
    pub entry: u64,
    /// What to copy. All of it lies in RAM; what lies between is zero.
    pub segments: Vec<Segment<'a>>,
    /// First guest-physical address after the kernel, its zeroed data included.
    pub end: u64,
}

/// One piece of a kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Guest-physical address.
    pub address: u64,
    /// What is there.
    pub bytes: &'a [u8],
}

impl<'a> Image<'a> {
    /// Decides where the parts of `file` go in a guest whose RAM is `ram` (guest-physical,
    /// beginning at a multiple of 2 MiB).
    ///
    /// # Errors
    /// The file is of neither format, for another machine, damaged, or does not fit.
    pub fn parse(file: &'a [u8], ram: &Range<u64>) -> Result<Image<'a>, ImageError> {
        if let Some(header) = Arm64Header::find(file) {
            return header.place(file, ram);
        }
        if file.starts_with(&elf::abi::ELFMAGIC) {
            return place_elf(file, ram);
        }
        Err(ImageError::Format)
    }
}

/// The header at the start of an arm64 Image, little-endian.
#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Arm64Header {
    code: [u32; 2],
    /// Bytes from a 2 MiB boundary at which the image wants to lie.
    text_offset: u64,
    /// Bytes that it needs from there, zeroed data included; zero in kernels before 3.17.
    image_size: u64,
    flags: u64,
    reserved: [u64; 3],
    magic: [u8; 4],
    reserved_pe: u32,
}

impl Arm64Header {
    const MAGIC: [u8; 4] = *b"ARM\x64";
    const FLAG_BIG_ENDIAN: u64 = 1;
    /// What `text_offset` means when `image_size` is zero.
    const OLD_TEXT_OFFSET: u64 = 0x8_0000;

    fn find(file: &[u8]) -> Option<Arm64Header> {
        let (header, _) = Arm64Header::read_from_prefix(file).ok()?;
        (header.magic == Self::MAGIC).then_some(header)
    }

    fn place<'a>(&self, file: &'a [u8], ram: &Range<u64>) -> Result<Image<'a>, ImageError> {
        if self.flags & Self::FLAG_BIG_ENDIAN != 0 {
            return Err(ImageError::BigEndian);
        }
        let (offset, needed) = match self.image_size {
            0 => (Self::OLD_TEXT_OFFSET, 0),
            size => (self.text_offset, size),
        };
        let entry = ram.start.checked_add(offset).ok_or(ImageError::Damaged)?;
        let size = needed.max(length(file)?);
        let end = within(ram, entry, size)?;
        Ok(Image { entry, segments: [Segment { address: entry, bytes: file }].into(), end })
    }
}

fn place_elf<'a>(file: &'a [u8], ram: &Range<u64>) -> Result<Image<'a>, ImageError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    if elf.ehdr.e_machine != EM_AARCH64 {
        return Err(ImageError::Machine(elf.ehdr.e_machine));
    }
    let headers = || elf.segments().into_iter().flatten().filter(|header| header.p_type == PT_LOAD);
    let lowest = headers().map(|header| header.p_paddr).min().ok_or(ImageError::Empty)?;
    let bias = match elf.ehdr.e_type {
        ET_EXEC => 0,
        // Position-independent: goes to the start of RAM, wherever it was linked.
        ET_DYN => ram.start.wrapping_sub(lowest),
        _ => return Err(ImageError::NotAProgram),
    };

    let mut image = Image { entry: 0, segments: Vec::new(), end: ram.start };
    let mut entry = None;
    for header in headers() {
        let bytes = elf.segment_data(&header)?;
        if length(bytes)? > header.p_memsz {
            return Err(ImageError::Damaged);
        }
        let address = header.p_paddr.wrapping_add(bias);
        image.end = image.end.max(within(ram, address, header.p_memsz)?);
        image.segments.push(Segment { address, bytes });
        entry = entry.or(entry_in(&header, address, elf.ehdr.e_entry));
    }
    image.entry = entry.ok_or(ImageError::Entry)?;
    Ok(image)
}

/// The physical address of a virtual `entry`, if it lies in this segment's file contents: code
/// cannot be in what is zeroed.
fn entry_in(header: &ProgramHeader, address: u64, entry: u64) -> Option<u64> {
    let offset = entry.checked_sub(header.p_vaddr)?;
    (offset < header.p_filesz).then(|| address.checked_add(offset))?
}

/// The end of `size` bytes at `address`, if all of them are RAM.
fn within(ram: &Range<u64>, address: u64, size: u64) -> Result<u64, ImageError> {
    let end = address.checked_add(size).ok_or(ImageError::Damaged)?;
    if address < ram.start || end > ram.end {
        return Err(ImageError::Outside { start: address, end, ram: ram.clone() });
    }
    Ok(end)
}

fn length(bytes: &[u8]) -> Result<u64, ImageError> {
    u64::try_from(bytes.len()).map_err(|_| ImageError::Damaged)
}

/// Why a file cannot be a guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Neither format.
    #[error("it is neither an arm64 Image nor an ELF file")]
    Format,
    /// Headers contradict the file or one another.
    #[error("its headers are damaged")]
    Damaged,
    /// Headers that cannot even be read.
    #[error("its ELF headers are damaged")]
    DamagedElf,
    /// Big-endian.
    #[error("it is big-endian; guests here start little-endian")]
    BigEndian,
    /// For another machine.
    #[error("it is for another machine (ELF machine {0}; AArch64 is 183)")]
    Machine(u16),
    /// An object file, a core dump, ...
    #[error("it is an ELF file, but not an executable")]
    NotAProgram,
    /// Nothing to load.
    #[error("it has nothing to load")]
    Empty,
    /// The entry point is not code.
    #[error("its entry point lies outside its code")]
    Entry,
    /// Does not fit.
    #[error(
        "it wants {start:#x} to {end:#x}, and the guest's RAM is {:#x} to {:#x}; \
         give it more memory or link it elsewhere",
        ram.start, ram.end
    )]
    Outside {
        /// First address that it wants.
        start: u64,
        /// End of what it wants.
        end: u64,
        /// What there is.
        ram: Range<u64>,
    },
}

impl From<ParseError> for ImageError {
    fn from(_: ParseError) -> ImageError {
        ImageError::DamagedElf
    }
}

#[cfg(test)]
mod tests;
