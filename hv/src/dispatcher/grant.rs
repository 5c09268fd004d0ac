//! `grant_table_op` (public/grant_table.h).
//!
//! Most commands take an array and put a status into each element; the call as a whole fails only
//! for pointers that cannot be used. A long array is worked off in parts: when an interrupt waits,
//! the call restarts itself with what is left.

use core::mem::offset_of;

use abi::grant::{
    CacheFlags, CacheFlush, Command, Copy, GetVersion, MapGrantRef, QuerySize, SetVersion,
    SetupTable, Status, SwapGrantRef, UnmapGrantRef, VERSION,
};
use abi::{DomId, Errno, Gfn, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

use super::call::{Call, Outcome};
use crate::guest::{self, Place};
use crate::machine::cache;
use crate::types::{GuestVa, Mfn};

/// x0: command, x1: pointer to an array of its structures, x2: their number.
pub fn grant_table_op(call: &mut Call<'_>) -> Outcome {
    if call.args[0] == Command::Copy.raw() {
        return each::<Copy>(call, copy);
    }
    match Command::from_raw(call.args[0]) {
        Some(Command::MapGrantRef) => each::<MapGrantRef>(call, map),
        Some(Command::UnmapGrantRef) => each::<UnmapGrantRef>(call, unmap),
        Some(command) => control(call, command),
        None => Errno::ENOSYS.into(),
    }
}

/// The commands that are not part of input and output.
#[cold]
fn control(call: &mut Call<'_>, command: Command) -> Outcome {
    match command {
        Command::SwapGrantRef => each::<SwapGrantRef>(call, swap),
        Command::CacheFlush => each::<CacheFlush>(call, cache_flush),
        Command::SetupTable => one::<SetupTable>(call, setup_table),
        Command::QuerySize => one::<QuerySize>(call, query_size),
        Command::SetVersion => one::<SetVersion>(call, set_version),
        Command::GetVersion => one::<GetVersion>(call, get_version),
        // Not on arm64, or version 2 only.
        _ => Errno::ENOSYS.into(),
    }
}

/// Runs an operation on each element of the array, which it gets with its place, for its results.
#[inline(never)]
fn each<T: FromBytes + IntoBytes>(
    call: &mut Call<'_>,
    operation: impl Fn(&mut Call<'_>, &T, Place<T>) -> Result<(), Errno>,
) -> Outcome {
    let [_, array, count, ..] = *call.args;
    let mut address = GuestVa(array);
    // An unsigned int in Xen, which refuses what is negative as an int.
    let mut left = count as u32;
    if left > i32::MAX as u32 {
        return Errno::EINVAL.into();
    }
    while left > 0 {
        let done = Place::<T>::find(call.monitor, address)
            .and_then(|(place, request)| operation(call, &request, place));
        if let Err(errno) = done {
            return errno.into();
        }
        left -= 1;
        // The end of the address space is not beyond the last element that was found.
        address = GuestVa(address.0.wrapping_add(size_of::<T>() as u64));
        if left > 0 && call.preempt_pending() {
            return go_on(call, address, left);
        }
    }
    Outcome::Return(0)
}

/// The outcome that makes the caller go on with the elements that are left.
#[cold]
fn go_on(call: &mut Call<'_>, array: GuestVa, left: u32) -> Outcome {
    let [command, _, _, x3, x4] = *call.args;
    call.proceed([command, array.0, u64::from(left), x3, x4])
}

/// Runs an operation on the one element that the array must have.
fn one<T: FromBytes + IntoBytes>(
    call: &mut Call<'_>,
    operation: impl Fn(&mut Call<'_>, &T, Place<T>) -> Result<(), Errno>,
) -> Outcome {
    if call.args[2] as u32 == 1 { each(call, operation) } else { Errno::EINVAL.into() }
}

#[inline(always)]
fn status<T>(result: Result<T, Status>) -> i16 {
    result.map_or_else(Status::raw, |_| Status::Okay.raw())
}

#[inline(always)]
fn map(call: &mut Call<'_>, request: &MapGrantRef, place: Place<MapGrantRef>) -> Result<(), Errno> {
    let result = call.monitor.grant_map(call.caller.domain, request);
    if let Ok(mapped) = result {
        place.write(call.monitor, offset_of!(MapGrantRef, handle), mapped.handle)?;
        let address = mapped.mfn.address();
        place.write(call.monitor, offset_of!(MapGrantRef, dev_bus_addr), address)?;
    }
    place.write(call.monitor, offset_of!(MapGrantRef, status), status(result))
}

#[inline(always)]
fn unmap(
    call: &mut Call<'_>,
    request: &UnmapGrantRef,
    place: Place<UnmapGrantRef>,
) -> Result<(), Errno> {
    let result = call.monitor.grant_unmap(call.caller.domain, request);
    // The request may lie in the very page that was unmapped.
    let place = result.map_or(place, |unmapped| place.after_unmapping(unmapped));
    place.write(call.monitor, offset_of!(UnmapGrantRef, status), status(result))
}

#[inline(always)]
fn copy(call: &mut Call<'_>, request: &Copy, place: Place<Copy>) -> Result<(), Errno> {
    let result = call.monitor.grant_copy(call.caller.domain, request);
    place.write(call.monitor, offset_of!(Copy, status), status(result))
}

fn swap(
    call: &mut Call<'_>,
    request: &SwapGrantRef,
    place: Place<SwapGrantRef>,
) -> Result<(), Errno> {
    let result = call.domain()?.grants.swap(request.first, request.second);
    place.write(call.monitor, offset_of!(SwapGrantRef, status), status(result))
}

/// Grows the table. A guest on arm64 places its frames by `memory_op` and learns nothing from the
/// list, which says that they are nowhere (`INVALID_GFN`).
fn setup_table(
    call: &mut Call<'_>,
    request: &SetupTable,
    place: Place<SetupTable>,
) -> Result<(), Errno> {
    let result = resolve(call, request.dom).and_then(|id| {
        let domain = call.monitor.domains.get_mut(id).ok_or(Status::BadDomain)?;
        let grown = domain.grants.grow(&mut call.monitor.frames, id, request.nr_frames);
        grown.or(Err(Status::GeneralError))
    });
    if result.is_ok() {
        for index in 0..u64::from(request.nr_frames) {
            let list = GuestVa(request.frame_list);
            guest::write_element(call.monitor, list, index, &Gfn(u64::MAX))?;
        }
    }
    place.write(call.monitor, offset_of!(SetupTable, status), status(result))
}

fn query_size(
    call: &mut Call<'_>,
    request: &QuerySize,
    place: Place<QuerySize>,
) -> Result<(), Errno> {
    let result = resolve(call, request.dom).and_then(|id| {
        let domain = call.monitor.domains.get(id).ok_or(Status::BadDomain)?;
        Ok((domain.grants.size(), domain.grants.max_size()))
    });
    if let Ok((size, max_size)) = result {
        place.write(call.monitor, offset_of!(QuerySize, nr_frames), size)?;
        place.write(call.monitor, offset_of!(QuerySize, max_nr_frames), max_size)?;
    }
    place.write(call.monitor, offset_of!(QuerySize, status), status(result))
}

fn set_version(_: &mut Call<'_>, request: &SetVersion, _: Place<SetVersion>) -> Result<(), Errno> {
    match request.version {
        VERSION => Ok(()),
        2 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

fn get_version(
    call: &mut Call<'_>,
    request: &GetVersion,
    place: Place<GetVersion>,
) -> Result<(), Errno> {
    call.resolve(request.dom)?;
    place.write(call.monitor, offset_of!(GetVersion, version), VERSION)
}

/// Cleans a range of one of the caller's frames; the privileged domain may name any. Xen also
/// allows it to whoever has mapped the frame. Invalidating cleans too: what the caches hold may be
/// all that hides the frame's previous contents.
fn cache_flush(
    call: &mut Call<'_>,
    request: &CacheFlush,
    _: Place<CacheFlush>,
) -> Result<(), Errno> {
    let flags = CacheFlags::from_bits(request.op).ok_or(Errno::EINVAL)?;
    if flags.contains(CacheFlags::SOURCE_GREF) {
        return Err(Errno::EOPNOTSUPP);
    }
    let (offset, length) = (u64::from(request.offset), u64::from(request.length));
    if offset + length > PAGE_SIZE as u64 {
        return Err(Errno::EINVAL);
    }
    if flags.is_empty() || length == 0 {
        return Ok(());
    }
    let mfn = Mfn::containing(request.dev_bus_addr);
    call.monitor.frames.ram(mfn).ok_or(Errno::EPERM)?;
    if call.monitor.frames.owner(mfn) != Some(call.caller.domain) {
        call.privileged()?;
    }
    let start = mfn.address() + offset;
    if flags.contains(CacheFlags::INVALIDATE) {
        cache::clean_and_invalidate(start, length);
    } else {
        cache::clean(start, length);
    }
    Ok(())
}

/// The domain that an element names, as [`Call::resolve`].
fn resolve(call: &mut Call<'_>, named: DomId) -> Result<DomId, Status> {
    call.resolve(named).map_err(|errno| match errno {
        Errno::EPERM => Status::PermissionDenied,
        _ => Status::BadDomain,
    })
}
