//! A guest's memory: what it has, giving it to the domain, and copying into it.

use alloc::vec::Vec;
use core::ops::Range;

use abi::{DomId, Errno, Gfn, PAGE_SIZE, guest_map};
use pv_guest_kernel::{foreign, hypercall};

/// log2 of the frames in a large extent: 2 MiB, one entry of a level-2 table.
const LARGE_ORDER: u32 = 9;
const LARGE_FRAMES: u64 = 1 << LARGE_ORDER;
/// Frames that are mapped at once while copying: 2 MiB of dom0's address space.
const COPY_FRAMES: u64 = LARGE_FRAMES;
const FRAME_BYTES: u64 = PAGE_SIZE as u64;
const FRAMES_PER_MEBIBYTE: u64 = (1 << 20) / FRAME_BYTES;
/// Frames beside RAM: the rings of console and store.
pub const RING_FRAMES: [Gfn; 2] = [guest_map::CONSOLE_FRAME, guest_map::STORE_FRAME];

/// Guest-physical RAM of a domain with this many MiB.
pub fn ram(mebibytes: u32) -> Range<u64> {
    let size = u64::from(mebibytes) << 20;
    guest_map::RAM_BASE..guest_map::RAM_BASE.saturating_add(size)
}

/// Frames of a domain with this many MiB, rings included.
pub fn frames(mebibytes: u32) -> u64 {
    u64::from(mebibytes) * FRAMES_PER_MEBIBYTE + RING_FRAMES.len() as u64
}

/// Gives the domain its RAM and its rings' frames. Where the machine has no 2 MiB in one piece,
/// single frames do.
///
/// # Errors
/// `ENOMEM`: not enough frames are free.
pub fn populate(domain: DomId, ram: &Range<u64>) -> Result<(), Errno> {
    let frames = Gfn::containing(ram.start).0..Gfn::containing(ram.end).0;
    let large: Vec<Gfn> = large_extents(&frames).collect();
    let done = populate_extents(domain, LARGE_ORDER, &large)?;
    let small = done.saturating_mul(LARGE_FRAMES).saturating_add(frames.start)..frames.end;
    for start in small.clone().step_by(COPY_FRAMES as usize) {
        let end = start.saturating_add(COPY_FRAMES).min(small.end);
        populate_all(domain, &(start..end).map(Gfn).collect::<Vec<_>>())?;
    }
    populate_all(domain, &RING_FRAMES)
}

/// Starts of the large extents that the range begins with.
fn large_extents(frames: &Range<u64>) -> impl Iterator<Item = Gfn> {
    let count = frames.end.saturating_sub(frames.start) / LARGE_FRAMES;
    (frames.start..).step_by(LARGE_FRAMES as usize).map(Gfn).take(count as usize)
}

fn populate_all(domain: DomId, frames: &[Gfn]) -> Result<(), Errno> {
    match populate_extents(domain, 0, frames)? {
        done if done == frames.len() as u64 => Ok(()),
        _ => Err(Errno::ENOMEM),
    }
}

/// How many extents were done: fewer than asked for if the machine ran out of such.
fn populate_extents(domain: DomId, order: u32, frames: &[Gfn]) -> Result<u64, Errno> {
    match hypercall::memory::populate_physmap(domain, order, frames) {
        Err(Errno::ENOMEM) => Ok(0),
        result => result,
    }
}

/// Copies bytes to a guest-physical address, and through the caches: the guest starts with its
/// own off.
///
/// # Errors
/// `EFAULT`: some of it is not the domain's memory. What a failed mapping answers.
pub fn copy_to(domain: DomId, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut offset = usize::try_from(address % FRAME_BYTES).map_err(|_| Errno::EFAULT)?;
    let mut frame = Gfn::containing(address);
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = (COPY_FRAMES as usize) * PAGE_SIZE - offset;
        let (now, later) = rest.split_at(rest.len().min(space));
        let count = offset.saturating_add(now.len()).div_ceil(PAGE_SIZE) as u64;
        let end = frame.checked_add(count).ok_or(Errno::EFAULT)?;
        let map = foreign::Map::new(domain, &(frame.0..end.0).map(Gfn).collect::<Vec<_>>())?;
        map.write(offset, now)?;
        map.clean_to_memory();
        (rest, frame, offset) = (later, end, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_in_mebibytes() {
        assert_eq!(ram(16), 0x4000_0000..0x4100_0000);
        assert_eq!(frames(16), 4096 + 2);
    }

    proptest! {
        #[test]
        fn large_extents_are_aligned_and_in_ram(mebibytes in 1u32..=3072) {
            let ram = ram(mebibytes);
            let frames = Gfn::containing(ram.start).0..Gfn::containing(ram.end).0;
            let extents: Vec<Gfn> = large_extents(&frames).collect();
            prop_assert_eq!(extents.len() as u32, mebibytes / 2);
            for (index, extent) in extents.iter().enumerate() {
                prop_assert_eq!(extent.0, frames.start + index as u64 * LARGE_FRAMES);
                prop_assert!(extent.0.is_multiple_of(LARGE_FRAMES));
                prop_assert!(extent.0 + LARGE_FRAMES <= frames.end);
            }
        }
    }
}
