//! `memory_op`: the frames of a domain and where it sees them (public/memory.h).
//!
//! Operations on lists do one element after the other and let interrupts in between: the bits of
//! x0 above the command say where to go on, as Xen's do. Operations on reservations never fail as
//! a whole once they have started: they return how many extents were done.

use abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, COMMAND_BITS, Command, Exchange, MapSpace, RemoveFromPhysmap,
    Reservation,
};
use abi::{DomId, Errno, Gfn};

use super::call::{Call, Outcome};
use super::quota;
use crate::allocator::Monitor;
use crate::allocator::physmap::Physmap;
use crate::allocator::quota::Quota;
use crate::guest;
use crate::types::GuestVa;

/// Where a list operation begins, or goes on.
#[derive(Debug, Clone, Copy)]
struct Start {
    command: Command,
    index: u64,
}

/// The hypercall.
pub fn memory_op(call: &mut Call<'_>) -> Outcome {
    let [operation, argument, ..] = *call.args;
    let Some(command) = Command::from_raw(operation & ((1 << COMMAND_BITS) - 1)) else {
        return Errno::ENOSYS.into();
    };
    let start = Start { command, index: operation >> COMMAND_BITS };
    let argument = GuestVa(argument);
    match command {
        Command::PopulatePhysmap => reserve(call, start, argument, populate),
        Command::DecreaseReservation => reserve(call, start, argument, decrease),
        Command::IncreaseReservation => reserve(call, start, argument, increase),
        Command::AddToPhysmap => add_to_physmap(call, argument),
        Command::AddToPhysmapBatch => add_to_physmap_batch(call, start, argument),
        Command::RemoveFromPhysmap => remove_from_physmap(call, argument),
        Command::MaximumRamPage => Outcome::Return(call.monitor.frames.highest().0),
        Command::CurrentReservation => {
            ask(call, argument, |monitor, id| monitor.frames.account(id).frames)
        }
        Command::MaximumReservation => {
            ask(call, argument, |monitor, id| monitor.frames.account(id).max_frames)
        }
        Command::MaximumGpfn => ask(call, argument, highest_gfn),
        Command::Exchange => exchange(call, argument).into(),
        Command::ClaimPages => Errno::ENOSYS.into(),
    }
}

fn populate(monitor: &mut Monitor, id: DomId, list: &Reservation, n: u64) -> Result<(), Errno> {
    at_extent(monitor, id, list, n, |space, gfn, order| space.populate(gfn, order))
}

fn decrease(monitor: &mut Monitor, id: DomId, list: &Reservation, n: u64) -> Result<(), Errno> {
    at_extent(monitor, id, list, n, |space, gfn, order| space.decrease(gfn, order))
}

fn increase(monitor: &mut Monitor, id: DomId, list: &Reservation, _: u64) -> Result<(), Errno> {
    monitor.physmap(id)?.increase(order(list)?)
}

#[inline(always)]
fn at_extent(
    monitor: &mut Monitor,
    id: DomId,
    list: &Reservation,
    n: u64,
    operation: impl Fn(&mut Physmap<'_>, Gfn, u8) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let gfn: Gfn = guest::read_element(monitor, GuestVa(list.extent_start), n)?;
    operation(&mut monitor.physmap(id)?, gfn, order(list)?)
}

fn order(list: &Reservation) -> Result<u8, Errno> {
    u8::try_from(list.extent_order).map_err(|_| Errno::EINVAL)
}

/// Goes through a list of extents until one fails. Returns how many were done. `extent` does one,
/// and reads its frame number if it needs that.
#[inline(never)]
fn reserve(
    call: &mut Call<'_>,
    start: Start,
    argument: GuestVa,
    extent: impl Fn(&mut Monitor, DomId, &Reservation, u64) -> Result<(), Errno>,
) -> Outcome {
    let list: Reservation = match guest::read(call.monitor, argument) {
        Ok(list) => list,
        Err(errno) => return errno.into(),
    };
    // Xen says no more of a domain that is not there, or not the caller's, than that nothing was done.
    let Ok(id) = call.resolve(list.domid) else { return Ok(start.index).into() };
    // More than a continuation could encode: none is done.
    if list.nr_extents > u64::from(u32::MAX) >> COMMAND_BITS {
        return Ok(start.index).into();
    }
    for n in start.index..list.nr_extents {
        if n > start.index && call.preempt_pending() {
            return go_on(call, start.command, n);
        }
        if extent(call.monitor, id, &list, n).is_err() {
            return Ok(n).into();
        }
    }
    Ok(start.index.max(list.nr_extents)).into()
}

/// The outcome that makes the caller go on with element `index`.
fn go_on(call: &mut Call<'_>, command: Command, index: u64) -> Outcome {
    let [_, rest @ ..] = *call.args;
    let [x1, x2, x3, x4] = rest;
    call.proceed([command.raw() | (index << COMMAND_BITS), x1, x2, x3, x4])
}

/// Refused: on Arm Xen, too, takes no frame from a domain that way. That comes after `EFAULT`.
#[inline(never)]
fn exchange(call: &mut Call<'_>, argument: GuestVa) -> Errno {
    let request: Result<Exchange, Errno> = guest::read(call.monitor, argument);
    request.err().unwrap_or(Errno::EOPNOTSUPP)
}

#[inline(never)]
fn add_to_physmap(call: &mut Call<'_>, argument: GuestVa) -> Outcome {
    let add = |call: &mut Call<'_>| {
        let request: AddToPhysmap = guest::read(call.monitor, argument)?;
        let id = call.resolve(request.domid)?;
        match MapSpace::from_raw(request.space) {
            // Only the batch says whose frames they are.
            None | Some(MapSpace::GmfnForeign) => Err(Errno::ENOSYS),
            Some(space) => map_own(call, id, space, request.idx, request.gpfn),
        }
    };
    add(call).map(|()| 0).into()
}

/// Maps a page that the domain shares with the monitor.
fn map_own(
    call: &mut Call<'_>,
    id: DomId,
    space: MapSpace,
    index: u64,
    gfn: Gfn,
) -> Result<(), Errno> {
    match space {
        MapSpace::SharedInfo if index == 0 => call.monitor.physmap(id)?.map_shared_info(gfn),
        MapSpace::SharedInfo => Err(Errno::EINVAL),
        MapSpace::GrantTable => {
            let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
            let mapped = call.monitor.physmap(id)?.map_grant_table(gfn, index);
            let domain = call.monitor.domains.get(id).ok_or(Errno::ESRCH)?;
            if index >= domain.grants.max_size() {
                quota::exceeded(call.monitor, id, Quota::GrantFrames);
            }
            mapped
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Maps a list of pages; each has an error number of its own.
#[inline(never)]
fn add_to_physmap_batch(call: &mut Call<'_>, start: Start, argument: GuestVa) -> Outcome {
    let batch: AddToPhysmapBatch = match guest::read(call.monitor, argument) {
        Ok(batch) => batch,
        Err(errno) => return errno.into(),
    };
    let id = match call.resolve(batch.domid) {
        Ok(id) => id,
        Err(errno) => return errno.into(),
    };
    for n in start.index..u64::from(batch.size) {
        if n > start.index && call.preempt_pending() {
            return go_on(call, start.command, n);
        }
        if let Err(errno) = add_element(call, id, &batch, n) {
            return errno.into();
        }
    }
    Ok(0).into()
}

/// Maps one element of a batch. Fails only if the lists cannot be read or written.
fn add_element(
    call: &mut Call<'_>,
    id: DomId,
    batch: &AddToPhysmapBatch,
    n: u64,
) -> Result<(), Errno> {
    let index: u64 = guest::read_element(call.monitor, GuestVa(batch.idxs), n)?;
    let gfn: Gfn = guest::read_element(call.monitor, GuestVa(batch.gpfns), n)?;
    let result = match MapSpace::from_raw(u32::from(batch.space)) {
        None => Err(Errno::ENOSYS),
        Some(MapSpace::GmfnForeign) => map_foreign(call, id, gfn, batch.foreign_domid, Gfn(index)),
        Some(space) => map_own(call, id, space, index, gfn),
    };
    let error = result.map_or_else(Errno::to_return, |()| 0) as i32;
    guest::write_element(call.monitor, GuestVa(batch.errs), n, &error)
}

fn map_foreign(
    call: &mut Call<'_>,
    into: DomId,
    gfn: Gfn,
    from: DomId,
    from_gfn: Gfn,
) -> Result<(), Errno> {
    let privileged = call.privileged()?;
    call.monitor.map_foreign(privileged, into, gfn, from, from_gfn)
}

#[inline(never)]
fn remove_from_physmap(call: &mut Call<'_>, argument: GuestVa) -> Outcome {
    let remove = |call: &mut Call<'_>| {
        let request: RemoveFromPhysmap = guest::read(call.monitor, argument)?;
        let id = call.resolve(request.domid)?;
        call.monitor.physmap(id)?.remove(request.gpfn)
    };
    remove(call).map(|()| 0).into()
}

/// Answers a question about the domain whose identifier the argument points to.
#[inline(never)]
fn ask(call: &mut Call<'_>, argument: GuestVa, question: fn(&Monitor, DomId) -> u64) -> Outcome {
    let named = guest::read(call.monitor, argument).and_then(|named| call.resolve(named));
    named.map(|id| question(call.monitor, id)).into()
}

fn highest_gfn(monitor: &Monitor, id: DomId) -> u64 {
    monitor.domains.get(id).and_then(|domain| domain.stage2.highest()).map_or(0, |gfn| gfn.0)
}
