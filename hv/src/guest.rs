//! The only way to touch a guest's memory by the addresses that it names.
//!
//! A guest virtual address is an allegation. It is translated with the tables of the vCPU that
//! runs on this CPU (both stages, as an access from EL1 with its permissions), and the machine
//! frame that results must be RAM: a mapped device is refused. Data is copied once, in or out; no
//! reference to guest memory is ever made. All functions take the monitor, hence its lock is held
//! and no stage-2 table changes between translation and copy.

#![expect(unsafe_code, reason = "takes the word of a stage-2 table for what is RAM")]

use core::ptr::NonNull;

use abi::{Errno, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::allocator::Monitor;
use crate::machine::memory::{RamFrame, read_once};
use crate::machine::{percpu, translate};
use crate::types::{GuestVa, Mfn};

/// What an access wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Reads a structure if that takes one step; `None` leaves it to [`read`] to say why not.
#[inline(always)]
pub fn peek<T: FromBytes>(monitor: &Monitor, va: GuestVa) -> Option<T> {
    frame(monitor, va, Access::Read).ok()?.read_aligned(page_offset(va))
}

/// A structure of the guest that is read once and answered in place. It is found once: that is
/// good as long as no page of the guest moves.
#[derive(Debug, Clone, Copy)]
pub struct Place<T> {
    va: GuestVa,
    /// `None` if that is not known, or if it does not lie whole and aligned in one frame.
    found: Option<Found<T>>,
}

impl<T: FromBytes + IntoBytes> Place<T> {
    /// Reads the structure at `va`.
    #[inline(always)]
    pub fn find(monitor: &Monitor, va: GuestVa) -> Result<(Place<T>, T), Errno> {
        // What EL1 may write it may read (Arm ARM D8.4.1), so that one translation serves both.
        if let Ok(frame) = frame(monitor, va, Access::Write)
            && let Some(value) = frame.read_aligned(page_offset(va))
        {
            let found = NonNull::new(frame.pointer().wrapping_add(page_offset(va)).cast());
            return Ok((Place { va, found: found.map(Found) }, value));
        }
        Ok((Place { va, found: None }, read_scattered(monitor, va)?))
    }

    /// Writes the field at `offset` in the structure.
    #[inline(always)]
    pub fn write<F: IntoBytes + Immutable + Copy>(
        self,
        monitor: &Monitor,
        offset: usize,
        field: F,
    ) -> Result<(), Errno> {
        match self.found {
            Some(found) => found.write(offset, field),
            None => self.write_scattered(monitor, offset, field)?,
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn write_scattered<F: IntoBytes + Immutable + Copy>(
        self,
        monitor: &Monitor,
        offset: usize,
        field: F,
    ) -> Result<(), Errno> {
        let va = self.va.0.checked_add(offset as u64).ok_or(Errno::EFAULT)?;
        write(monitor, GuestVa(va), &field)
    }

    /// The same place when pages may have moved.
    #[inline(always)]
    pub fn anew(self) -> Place<T> {
        Place { found: None, ..self }
    }

    /// The same place after a page was unmapped behind which `unmapped` was: if the structure lay
    /// there, it is looked for anew.
    #[inline(always)]
    pub fn after_unmapping(self, unmapped: Mfn) -> Place<T> {
        let elsewhere = |found: &Found<T>| Mfn::containing(found.0.addr().get() as u64) != unmapped;
        Place { found: self.found.filter(elsewhere), ..self }
    }
}

/// Where a structure lies, whole and aligned, in a frame of RAM: the caller's, as long as none of
/// its pages moves.
#[derive(Debug, Clone, Copy)]
pub struct Found<T>(NonNull<T>);

impl<T: FromBytes + IntoBytes> Found<T> {
    /// Reads it.
    #[inline(always)]
    pub fn read(self) -> T {
        // SAFETY: it lies in RAM, whole and aligned.
        unsafe { read_once(self.0.as_ptr()) }
    }

    /// It as the structure that the guest calls `va`.
    pub fn at(self, va: GuestVa) -> Place<T> {
        Place { va, found: Some(self) }
    }

    /// Writes the field at `offset` in it.
    #[inline(always)]
    pub fn write<F: IntoBytes + Immutable + Copy>(self, offset: usize, field: F) {
        const { assert!(align_of::<F>() <= align_of::<T>()) };
        assert!(
            offset.is_multiple_of(align_of::<F>()) && offset + size_of::<F>() <= size_of::<T>()
        );
        // SAFETY: it lies in RAM, whole and aligned, hence the field, too.
        unsafe { self.0.cast::<u8>().add(offset).cast::<F>().write_volatile(field) };
    }
}

/// Elements of an array that follow each other in one page.
#[derive(Debug)]
pub struct Run<T> {
    start: NonNull<T>,
    next: NonNull<T>,
    end: NonNull<T>,
}

impl<T: FromBytes + IntoBytes> Run<T> {
    /// Those from `va` on, at most `count`. `None` if there are none that one step reaches.
    #[inline(always)]
    pub fn find(monitor: &Monitor, va: GuestVa, count: u64) -> Option<Run<T>> {
        let offset = page_offset(va);
        let fit = ((PAGE_SIZE - offset) / size_of::<T>()).min(usize::try_from(count).ok()?);
        let frame = frame(monitor, va, Access::Write).ok()?;
        let start = NonNull::new(frame.pointer().wrapping_add(offset).cast::<T>())?;
        let end = NonNull::new(start.as_ptr().wrapping_add(fit))?;
        let found = fit > 0 && offset.is_multiple_of(align_of::<T>());
        found.then_some(Run { start, next: start, end })
    }

    /// How many of them [`Run::next`] has returned.
    #[inline(always)]
    pub fn taken(&self) -> u64 {
        ((self.next.addr().get() - self.start.addr().get()) / size_of::<T>()) as u64
    }
}

impl<T> Iterator for Run<T> {
    type Item = Found<T>;

    #[inline(always)]
    fn next(&mut self) -> Option<Found<T>> {
        if self.next == self.end {
            return None;
        }
        let found = Found(self.next);
        // SAFETY: there is an element before the end, which is in the same frame (`find`).
        self.next = unsafe { self.next.add(1) };
        Some(found)
    }
}

/// Reads a structure.
#[inline(always)]
pub fn read<T: FromBytes + IntoBytes>(monitor: &Monitor, va: GuestVa) -> Result<T, Errno> {
    let frame = frame(monitor, va, Access::Read)?;
    match frame.read_aligned(page_offset(va)) {
        Some(value) => Ok(value),
        None => read_scattered(monitor, va),
    }
}

/// Reads a structure that is not aligned, or lies in two pages.
#[cold]
#[inline(never)]
fn read_scattered<T: FromBytes + IntoBytes>(monitor: &Monitor, va: GuestVa) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    read_bytes(monitor, va, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure.
#[inline(always)]
pub fn write<T: IntoBytes + Immutable + Copy>(
    monitor: &Monitor,
    va: GuestVa,
    value: &T,
) -> Result<(), Errno> {
    let frame = frame(monitor, va, Access::Write)?;
    if frame.write_aligned(page_offset(va), value) {
        return Ok(());
    }
    write_bytes(monitor, va, value.as_bytes())
}

/// Reads a structure, has it changed, and writes it back: for arguments that are answered in
/// place. Nothing is written if the change fails. The change must leave the guest-physical spaces
/// of all domains as they are: the frame found before it is written after it.
#[inline(always)]
pub fn update<T, R>(
    monitor: &mut Monitor,
    va: GuestVa,
    change: impl FnOnce(&mut Monitor, &mut T) -> Result<R, Errno>,
) -> Result<R, Errno>
where
    T: FromBytes + IntoBytes + Immutable + Copy,
{
    // What EL1 may write it may read (Arm ARM D8.4.1), so that one translation serves both.
    let frame = frame(monitor, va, Access::Write)?;
    let Some(mut value) = frame.read_aligned(page_offset(va)) else {
        let mut value = read_scattered(monitor, va)?;
        let result = change(monitor, &mut value)?;
        write_bytes(monitor, va, value.as_bytes())?;
        return Ok(result);
    };
    let result = change(monitor, &mut value)?;
    frame.write_aligned(page_offset(va), &value);
    Ok(result)
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
pub fn write_element<T: IntoBytes + Immutable + Copy>(
    monitor: &Monitor,
    array: GuestVa,
    index: u64,
    value: &T,
) -> Result<(), Errno> {
    write(monitor, element::<T>(array, index)?, value)
}

/// Reads bytes, wherever page boundaries fall.
pub fn read_bytes(monitor: &Monitor, va: GuestVa, into: &mut [u8]) -> Result<(), Errno> {
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
#[inline(always)]
fn frame(monitor: &Monitor, va: GuestVa, access: Access) -> Result<RamFrame, Errno> {
    let address = match access {
        Access::Read => translate::at_read(va),
        Access::Write => translate::at_write(va),
    }
    .map_err(|_| Errno::EFAULT)?;
    let mfn = Mfn::containing(address);
    if percpu::maps_only_ram() {
        // SAFETY: the address came out of the stage-2 table of the vCPU in this CPU, which maps
        // frames of the pool only, each held by its mapping.
        return Ok(unsafe { RamFrame::new(mfn) });
    }
    monitor.frames.ram(mfn).ok_or(Errno::EFAULT)
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
