//! The only way to touch a guest's memory by the addresses that it names.
//!
//! A guest virtual address is an allegation. It is translated with the tables of the vCPU that
//! runs on this CPU (both stages, as an access from EL1 with its permissions), and the machine
//! frame that results must be RAM in the frame pool: a mapped device is refused. Data is copied
//! once, in or out; no reference to guest memory is ever made. All functions take the monitor,
//! hence its lock is held and no stage-2 table changes between translation and copy.

use abi::{Errno, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::allocator::Monitor;
use crate::machine::memory::RamFrame;
use crate::machine::translate;
use crate::types::{GuestVa, Mfn};

/// What an access wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Reads a structure.
#[inline]
pub fn read<T: FromBytes + IntoBytes>(monitor: &Monitor, va: GuestVa) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    read_bytes(monitor, va, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure.
#[inline]
pub fn write<T: IntoBytes + Immutable>(
    monitor: &Monitor,
    va: GuestVa,
    value: &T,
) -> Result<(), Errno> {
    write_bytes(monitor, va, value.as_bytes())
}

/// The address of element `index` of an array that starts at `array`.
#[inline]
pub fn element<T>(array: GuestVa, index: u64) -> Result<GuestVa, Errno> {
    index
        .checked_mul(size_of::<T>() as u64)
        .and_then(|offset| array.0.checked_add(offset))
        .map(GuestVa)
        .ok_or(Errno::EFAULT)
}

/// Reads element `index` of an array.
#[inline]
pub fn read_element<T: FromBytes + IntoBytes>(
    monitor: &Monitor,
    array: GuestVa,
    index: u64,
) -> Result<T, Errno> {
    read(monitor, element::<T>(array, index)?)
}

/// Writes element `index` of an array.
#[inline]
pub fn write_element<T: IntoBytes + Immutable>(
    monitor: &Monitor,
    array: GuestVa,
    index: u64,
    value: &T,
) -> Result<(), Errno> {
    write(monitor, element::<T>(array, index)?, value)
}

/// Reads bytes, wherever page boundaries fall.
#[inline]
pub fn read_bytes(monitor: &Monitor, va: GuestVa, into: &mut [u8]) -> Result<(), Errno> {
    let offset = page_offset(va);
    if into.len() <= PAGE_SIZE - offset {
        frame(monitor, va, Access::Read)?.read(offset, into);
        return Ok(());
    }
    let mut va = va;
    let mut rest = into;
    while !rest.is_empty() {
        let offset = page_offset(va);
        let (chunk, after) = rest.split_at_mut(rest.len().min(PAGE_SIZE - offset));
        frame(monitor, va, Access::Read)?.read(offset, chunk);
        va = next_page(va)?;
        rest = after;
    }
    Ok(())
}

/// Writes bytes, wherever page boundaries fall. On a fault the pages before it are written.
#[inline]
pub fn write_bytes(monitor: &Monitor, va: GuestVa, from: &[u8]) -> Result<(), Errno> {
    let mut va = va;
    let mut rest = from;
    loop {
        let offset = page_offset(va);
        let (chunk, after) = rest.split_at(rest.len().min(PAGE_SIZE - offset));
        frame(monitor, va, Access::Write)?.write(offset, chunk);
        if after.is_empty() {
            return Ok(());
        }
        va = next_page(va)?;
        rest = after;
    }
}

/// The frame behind a guest virtual address, if it is RAM that the guest may access so.
#[inline]
fn frame(monitor: &Monitor, va: GuestVa, access: Access) -> Result<RamFrame, Errno> {
    let address = match access {
        Access::Read => translate::at_read(va),
        Access::Write => translate::at_write(va),
    }
    .map_err(|_| Errno::EFAULT)?;
    monitor.frames.ram(Mfn::containing(address)).ok_or(Errno::EFAULT)
}

#[inline]
const fn page_offset(va: GuestVa) -> usize {
    (va.0 % PAGE_SIZE as u64) as usize
}

/// The first address of the page after the one that holds `va`.
fn next_page(va: GuestVa) -> Result<GuestVa, Errno> {
    let page = va.0 & !(PAGE_SIZE as u64 - 1);
    page.checked_add(PAGE_SIZE as u64).map(GuestVa).ok_or(Errno::EFAULT)
}
