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
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::{Call, Outcome};
use crate::guest::{self, Place};
use crate::machine::cache;
use crate::types::{GuestVa, Mfn};

/// x0: command, x1: pointer to an array of its structures, x2: their number.
pub fn grant_table_op(call: &mut Call<'_>) -> Outcome {
    match Command::from_raw(call.args[0]) {
        Some(Command::Copy) => each::<Copy>(call, copy),
        Some(Command::MapGrantRef) => each_read::<MapGrantRef>(call, map),
        Some(Command::UnmapGrantRef) => each_read::<UnmapGrantRef>(call, unmap),
        Some(command) => control(call, command),
        None => Errno::ENOSYS.into(),
    }
}

/// The commands that are not part of input and output.
#[cold]
fn control(call: &mut Call<'_>, command: Command) -> Outcome {
    match command {
        Command::SwapGrantRef => each_read::<SwapGrantRef>(call, swap),
        Command::CacheFlush => each_read::<CacheFlush>(call, cache_flush),
        Command::SetupTable => one::<SetupTable>(call, setup_table),
        Command::QuerySize => one::<QuerySize>(call, query_size),
        Command::SetVersion => one::<SetVersion>(call, set_version),
        Command::GetVersion => one::<GetVersion>(call, get_version),
        // Not on arm64, or version 2 only.
        _ => Errno::ENOSYS.into(),
    }
}

/// Runs an operation on each element of the array, which it gets with its address, and writes its
/// results there.
fn each_read<T: FromBytes + IntoBytes>(
    call: &mut Call<'_>,
    operation: impl Fn(&mut Call<'_>, &T, GuestVa) -> Result<(), Errno>,
) -> Outcome {
    each::<T>(call, |call, address| {
        let request = guest::read(call.monitor, address)?;
        operation(call, &request, address)
    })
}

/// Runs an operation on the address of each element of the array.
#[inline(never)]
fn each<T>(
    call: &mut Call<'_>,
    operation: impl Fn(&mut Call<'_>, GuestVa) -> Result<(), Errno>,
) -> Outcome {
    let [command, array, count, x3, x4] = *call.args;
    // An unsigned int in Xen, which refuses what is negative as an int.
    let count = count as u32;
    if count > i32::MAX as u32 {
        return Errno::EINVAL.into();
    }
    for index in 0..u64::from(count) {
        let address = match guest::element::<T>(GuestVa(array), index) {
            Ok(address) => address,
            Err(errno) => return errno.into(),
        };
        if index > 0 && call.preempt_pending() {
            let left = u64::from(count).saturating_sub(index);
            return call.proceed([command, address.0, left, x3, x4]);
        }
        if let Err(errno) = operation(call, address) {
            return errno.into();
        }
    }
    Ok(0).into()
}

/// Runs an operation on the one element that the array must have.
fn one<T: FromBytes + IntoBytes>(
    call: &mut Call<'_>,
    operation: impl Fn(&mut Call<'_>, &T, GuestVa) -> Result<(), Errno>,
) -> Outcome {
    if call.args[2] as u32 == 1 { each_read(call, operation) } else { Errno::EINVAL.into() }
}

/// Writes a field of the structure at `address`.
#[inline]
fn put<T: IntoBytes + Immutable + core::marker::Copy>(
    call: &Call<'_>,
    address: GuestVa,
    offset: usize,
    value: T,
) -> Result<(), Errno> {
    let field = address.0.checked_add(offset as u64).ok_or(Errno::EFAULT)?;
    guest::write(call.monitor, GuestVa(field), &value)
}

#[inline]
fn status<T>(result: Result<T, Status>) -> i16 {
    result.map_or_else(Status::raw, |_| Status::Okay.raw())
}

#[inline]
fn map(call: &mut Call<'_>, request: &MapGrantRef, address: GuestVa) -> Result<(), Errno> {
    let mut answer = *request;
    let result = call.monitor.grant_map(call.caller.domain, request);
    answer.status = status(result);
    if let Ok(mapped) = result {
        answer.handle = mapped.handle;
        answer.dev_bus_addr = mapped.mfn.address();
    }
    guest::write(call.monitor, address, &answer)
}

#[inline]
fn unmap(call: &mut Call<'_>, request: &UnmapGrantRef, address: GuestVa) -> Result<(), Errno> {
    let result = call.monitor.grant_unmap(call.caller.domain, request);
    put(call, address, offset_of!(UnmapGrantRef, status), status(result))
}

/// Copying changes no address space: the place of the request is that of the answer.
#[inline(always)]
fn copy(call: &mut Call<'_>, address: GuestVa) -> Result<(), Errno> {
    let Some((place, request)) = Place::find::<Copy>(call.monitor, address) else {
        return copy_scattered(call, address);
    };
    let result = call.monitor.grant_copy(call.caller.domain, &request);
    place.write(offset_of!(Copy, status), &status(result));
    Ok(())
}

/// The same for a request that is not aligned, or lies in two pages.
#[cold]
fn copy_scattered(call: &mut Call<'_>, address: GuestVa) -> Result<(), Errno> {
    let request = guest::read(call.monitor, address)?;
    let result = call.monitor.grant_copy(call.caller.domain, &request);
    put(call, address, offset_of!(Copy, status), status(result))
}

fn swap(call: &mut Call<'_>, request: &SwapGrantRef, address: GuestVa) -> Result<(), Errno> {
    let result = call.domain()?.grants.swap(request.first, request.second);
    put(call, address, offset_of!(SwapGrantRef, status), status(result))
}

/// Grows the table. A guest on arm64 places its frames by `memory_op` and learns nothing from the
/// list, which says that they are nowhere (`INVALID_GFN`).
fn setup_table(call: &mut Call<'_>, request: &SetupTable, address: GuestVa) -> Result<(), Errno> {
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
    put(call, address, offset_of!(SetupTable, status), status(result))
}

fn query_size(call: &mut Call<'_>, request: &QuerySize, address: GuestVa) -> Result<(), Errno> {
    let mut answer = *request;
    let result = resolve(call, request.dom).and_then(|id| {
        let domain = call.monitor.domains.get(id).ok_or(Status::BadDomain)?;
        (answer.nr_frames, answer.max_nr_frames) = (domain.grants.size(), domain.grants.max_size());
        Ok(())
    });
    answer.status = status(result);
    guest::write(call.monitor, address, &answer)
}

fn set_version(call: &mut Call<'_>, request: &SetVersion, address: GuestVa) -> Result<(), Errno> {
    match request.version {
        VERSION => guest::write(call.monitor, address, request),
        2 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

fn get_version(call: &mut Call<'_>, request: &GetVersion, address: GuestVa) -> Result<(), Errno> {
    call.resolve(request.dom)?;
    put(call, address, offset_of!(GetVersion, version), VERSION)
}

/// Cleans a range of one of the caller's frames; the privileged domain may name any. Xen also
/// allows it to whoever has mapped the frame. Invalidating cleans too: what the caches hold may be
/// all that hides the frame's previous contents.
fn cache_flush(call: &mut Call<'_>, request: &CacheFlush, _: GuestVa) -> Result<(), Errno> {
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
