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
use super::quota;
use crate::allocator::quota::Quota;
use crate::guest::{self, Place};
use crate::machine::cache;
use crate::types::{GuestVa, Mfn};

/// x0: command, x1: pointer to an array of its structures, x2: their number.
pub fn grant_table_op(call: &mut Call<'_>) -> Outcome {
    match Command::from_raw(call.args[0]) {
        Some(Command::MapGrantRef) => each::<MapGrantRef>(call),
        Some(Command::UnmapGrantRef) => each::<UnmapGrantRef>(call),
        Some(Command::Copy) => each::<Copy>(call),
        Some(command) => control(call, command),
        None => Errno::ENOSYS.into(),
    }
}

/// The commands that are not part of input and output.
#[cold]
fn control(call: &mut Call<'_>, command: Command) -> Outcome {
    match command {
        Command::SwapGrantRef => each::<SwapGrantRef>(call),
        Command::CacheFlush => each::<CacheFlush>(call),
        Command::SetupTable => one::<SetupTable>(call),
        Command::QuerySize => one::<QuerySize>(call),
        Command::SetVersion => one::<SetVersion>(call),
        Command::GetVersion => one::<GetVersion>(call),
        // Not on arm64, or version 2 only.
        _ => Errno::ENOSYS.into(),
    }
}

/// An element of a command's array.
pub trait Request: FromBytes + IntoBytes + Sized {
    /// Does what it asks for, and writes the results to its place.
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno>;
}

/// Performs each element of the array.
#[inline(always)]
pub fn each<T: Request>(call: &mut Call<'_>) -> Outcome {
    let [_, array, count, ..] = *call.args;
    let mut address = GuestVa(array);
    // An unsigned int in Xen, which refuses what is negative as an int.
    let mut left = count as u32;
    if left > i32::MAX as u32 {
        return Errno::EINVAL.into();
    }
    while left > 0 {
        let done = Place::<T>::find(call.monitor, address)
            .and_then(|(place, request)| request.perform(call, place));
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

/// Performs the one element that the array must have.
fn one<T: Request>(call: &mut Call<'_>) -> Outcome {
    if call.args[2] as u32 == 1 { each::<T>(call) } else { Errno::EINVAL.into() }
}

#[inline(always)]
fn status<T>(result: Result<T, Status>) -> i16 {
    result.map_or_else(Status::raw, |_| Status::Okay.raw())
}

impl Request for MapGrantRef {
    #[inline(always)]
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = call.monitor.grant_map(call.caller.domain, self);
        if let Ok(mapped) = result {
            place.write(call.monitor, offset_of!(MapGrantRef, handle), mapped.handle)?;
            let address = mapped.mfn.address();
            place.write(call.monitor, offset_of!(MapGrantRef, dev_bus_addr), address)?;
        }
        place.write(call.monitor, offset_of!(MapGrantRef, status), status(result))
    }
}

impl Request for UnmapGrantRef {
    #[inline(always)]
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = call.monitor.grant_unmap(call.caller.domain, self);
        // The self may lie in the very page that was unmapped.
        let place = result.map_or(place, |unmapped| place.after_unmapping(unmapped));
        place.write(call.monitor, offset_of!(UnmapGrantRef, status), status(result))
    }
}

impl Request for Copy {
    #[inline(always)]
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = call.monitor.grant_copy(call.caller.domain, self);
        place.write(call.monitor, offset_of!(Copy, status), status(result))
    }
}

impl Request for SwapGrantRef {
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = call.domain()?.grants.swap(self.first, self.second);
        place.write(call.monitor, offset_of!(SwapGrantRef, status), status(result))
    }
}

/// Grows the table. A guest on arm64 places its frames by `memory_op` and learns nothing from the
/// list, which says that they are nowhere (`INVALID_GFN`).
impl Request for SetupTable {
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = resolve(call, self.dom).and_then(|id| {
            let domain = call.monitor.domains.get_mut(id).ok_or(Status::BadDomain)?;
            if self.nr_frames > domain.grants.max_size() {
                quota::exceeded(call.monitor, id, Quota::GrantFrames);
                return Err(Status::GeneralError);
            }
            let grown = domain.grants.grow(&mut call.monitor.frames, id, self.nr_frames);
            grown.or(Err(Status::GeneralError))
        });
        if result.is_ok() {
            for index in 0..u64::from(self.nr_frames) {
                let list = GuestVa(self.frame_list);
                guest::write_element(call.monitor, list, index, &Gfn(u64::MAX))?;
            }
        }
        place.write(call.monitor, offset_of!(SetupTable, status), status(result))
    }
}

impl Request for QuerySize {
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        let result = resolve(call, self.dom).and_then(|id| {
            let domain = call.monitor.domains.get(id).ok_or(Status::BadDomain)?;
            Ok((domain.grants.size(), domain.grants.max_size()))
        });
        if let Ok((size, max_size)) = result {
            place.write(call.monitor, offset_of!(QuerySize, nr_frames), size)?;
            place.write(call.monitor, offset_of!(QuerySize, max_nr_frames), max_size)?;
        }
        place.write(call.monitor, offset_of!(QuerySize, status), status(result))
    }
}

impl Request for SetVersion {
    fn perform(&self, _: &mut Call<'_>, _: Place<Self>) -> Result<(), Errno> {
        match self.version {
            VERSION => Ok(()),
            2 => Err(Errno::ENOSYS),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Request for GetVersion {
    fn perform(&self, call: &mut Call<'_>, place: Place<Self>) -> Result<(), Errno> {
        call.resolve(self.dom)?;
        place.write(call.monitor, offset_of!(GetVersion, version), VERSION)
    }
}

/// Cleans a range of one of the caller's frames; the privileged domain may name any. Xen also
/// allows it to whoever has mapped the frame. Invalidating cleans too: what the caches hold may be
/// all that hides the frame's previous contents.
impl Request for CacheFlush {
    fn perform(&self, call: &mut Call<'_>, _: Place<Self>) -> Result<(), Errno> {
        let flags = CacheFlags::from_bits(self.op).ok_or(Errno::EINVAL)?;
        if flags.contains(CacheFlags::SOURCE_GREF) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (offset, length) = (u64::from(self.offset), u64::from(self.length));
        if offset + length > PAGE_SIZE as u64 {
            return Err(Errno::EINVAL);
        }
        if flags.is_empty() || length == 0 {
            return Ok(());
        }
        let mfn = Mfn::containing(self.dev_bus_addr);
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
}

/// The domain that an element names, as [`Call::resolve`].
fn resolve(call: &mut Call<'_>, named: DomId) -> Result<DomId, Status> {
    call.resolve(named).map_err(|errno| match errno {
        Errno::EPERM => Status::PermissionDenied,
        _ => Status::BadDomain,
    })
}
