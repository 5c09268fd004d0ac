//! `grant_table_op`. [`crate::grant`] has the owned forms.

use abi::grant::{Command, Copy, MapGrantRef, QuerySize, SetupTable, Status, UnmapGrantRef};
use abi::hypercall::Number;
use abi::{DomId, Errno};

/// Works on an array of structures; on none without asking.
///
/// # Safety
/// `T` must be the structure of that command.
#[inline]
unsafe fn operate<T>(command: Command, elements: &mut [T]) -> Result<(), Errno> {
    if elements.is_empty() {
        return Ok(());
    }
    let (pointer, count) =
        (elements.as_mut_ptr().expose_provenance() as u64, elements.len() as u64);
    // SAFETY: the pointer is to an exclusive borrow of `count` structures.
    unsafe { super::raw(Number::GrantTableOp, [command.raw(), pointer, count, 0, 0]) }.map(drop)
}

/// Maps grants; each element gets a status of its own.
///
/// # Errors
/// If the call as a whole failed.
///
/// # Safety
/// Nothing of this kernel's may be in use at the addresses named.
#[inline]
pub unsafe fn map(elements: &mut [MapGrantRef]) -> Result<(), Errno> {
    // SAFETY: the structure of that command.
    unsafe { operate(Command::MapGrantRef, elements) }
}

/// Unmaps grants; each element gets a status of its own.
///
/// # Errors
/// If the call as a whole failed.
///
/// # Safety
/// Nothing may use the mappings any more.
#[inline]
pub unsafe fn unmap(elements: &mut [UnmapGrantRef]) -> Result<(), Errno> {
    // SAFETY: the structure of that command.
    unsafe { operate(Command::UnmapGrantRef, elements) }
}

/// Copies from and to grants or frames of this domain; each element gets a status of its own.
///
/// # Errors
/// If the call as a whole failed.
///
/// # Safety
/// Frames of this domain that are named as destinations must be free to be overwritten.
#[inline]
pub unsafe fn copy(elements: &mut [Copy]) -> Result<(), Errno> {
    // SAFETY: the structure of that command.
    unsafe { operate(Command::Copy, elements) }
}

/// How many frames this domain's table has, and to how many it may grow.
///
/// # Errors
/// What the monitor answers.
pub fn query_size() -> Result<QuerySize, Errno> {
    let mut argument = [QuerySize { dom: DomId::SELF, ..Default::default() }];
    // SAFETY: the structure of that command.
    unsafe { operate(Command::QuerySize, &mut argument) }?;
    let [answer] = argument;
    done(answer.status).map(|()| answer)
}

/// Grows this domain's table to as many frames as `list` has elements, and lists where they are
/// mapped.
///
/// # Errors
/// What the monitor answers; `EINVAL` stands for any failure of the element.
pub fn setup_table(list: &mut [u64]) -> Result<(), Errno> {
    let nr_frames = u32::try_from(list.len()).map_err(|_| Errno::E2BIG)?;
    let frame_list = list.as_mut_ptr().expose_provenance() as u64;
    let mut argument =
        [SetupTable { dom: DomId::SELF, nr_frames, frame_list, ..Default::default() }];
    // SAFETY: the structure of that command; the list has room for that many frames.
    unsafe { operate(Command::SetupTable, &mut argument) }?;
    let [answer] = argument;
    done(answer.status)
}

fn done(status: i16) -> Result<(), Errno> {
    if status == Status::Okay.raw() { Ok(()) } else { Err(Errno::EINVAL) }
}
