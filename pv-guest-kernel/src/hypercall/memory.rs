//! `memory_op`.

use abi::hypercall::Number;
use abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, Command, MapSpace, RemoveFromPhysmap, Reservation,
};
use abi::{DomId, Errno, Gfn};

/// Maps a page into this domain's guest-physical space.
///
/// # Errors
/// What the monitor answers.
///
/// # Safety
/// What was at that frame is gone afterwards: nothing may use it.
pub unsafe fn add_to_physmap(space: MapSpace, index: u64, gfn: Gfn) -> Result<(), Errno> {
    let mut argument =
        AddToPhysmap { domid: DomId::SELF, size: 0, space: space.raw(), idx: index, gpfn: gfn };
    let command = Command::AddToPhysmap.raw();
    // SAFETY: the structure of that command; the rest is the caller's promise.
    unsafe { super::with_argument(Number::MemoryOp, command, &mut argument) }.map(drop)
}

/// Maps frames of another domain into this one (privileged); `errors` gets a negated error number
/// or zero for each. The three slices go together, element by element.
///
/// # Errors
/// If the call as a whole failed; `EINVAL` if the slices differ in length.
///
/// # Safety
/// What was at the `places` is gone afterwards: nothing may use it.
pub unsafe fn map_foreign(
    domain: DomId,
    frames: &[Gfn],
    places: &[Gfn],
    errors: &mut [i32],
) -> Result<(), Errno> {
    if places.len() != frames.len() || errors.len() != frames.len() {
        return Err(Errno::EINVAL);
    }
    let mut argument = AddToPhysmapBatch {
        domid: DomId::SELF,
        space: u16::try_from(MapSpace::GmfnForeign.raw()).map_err(|_| Errno::EINVAL)?,
        size: u16::try_from(frames.len()).map_err(|_| Errno::E2BIG)?,
        foreign_domid: domain,
        idxs: frames.as_ptr().expose_provenance() as u64,
        gpfns: places.as_ptr().expose_provenance() as u64,
        errs: errors.as_mut_ptr().expose_provenance() as u64,
    };
    let command = Command::AddToPhysmapBatch.raw();
    // SAFETY: the structure of that command; its arrays have `size` elements each.
    unsafe { super::with_argument(Number::MemoryOp, command, &mut argument) }.map(drop)
}

/// Removes a page from a domain's guest-physical space.
///
/// # Errors
/// What the monitor answers.
///
/// # Safety
/// If the domain is this one, nothing may use the page any more.
pub unsafe fn remove_from_physmap(domain: DomId, gfn: Gfn) -> Result<(), Errno> {
    let mut argument = RemoveFromPhysmap { domid: domain, gpfn: gfn, ..Default::default() };
    let command = Command::RemoveFromPhysmap.raw();
    // SAFETY: the structure of that command; the rest is the caller's promise.
    unsafe { super::with_argument(Number::MemoryOp, command, &mut argument) }.map(drop)
}

/// Gives a domain fresh memory: extents of `2^order` frames that begin at `frames`. Returns how
/// many of them were done.
///
/// # Errors
/// What the monitor answers.
pub fn populate_physmap(domain: DomId, order: u32, frames: &[Gfn]) -> Result<u64, Errno> {
    let mut argument = Reservation {
        extent_start: frames.as_ptr().expose_provenance() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        domid: domain,
        ..Default::default()
    };
    let command = Command::PopulatePhysmap.raw();
    // SAFETY: the structure of that command; its array has that many elements. A directly mapped
    // or occupied place is refused by the monitor, so nothing in use changes.
    unsafe { super::with_argument(Number::MemoryOp, command, &mut argument) }
}

/// Gives memory of this domain back: extents of `2^order` frames that begin at `frames`. Returns
/// how many of them were given.
///
/// # Errors
/// What the monitor answers.
///
/// # Safety
/// Nothing may use those frames until there is memory again.
pub unsafe fn decrease_reservation(order: u32, frames: &[Gfn]) -> Result<u64, Errno> {
    let mut argument = Reservation {
        extent_start: frames.as_ptr().expose_provenance() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        domid: DomId::SELF,
        ..Default::default()
    };
    let command = Command::DecreaseReservation.raw();
    // SAFETY: the structure of that command; the rest is the caller's promise.
    unsafe { super::with_argument(Number::MemoryOp, command, &mut argument) }
}
