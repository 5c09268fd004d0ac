//! `sysctl`: what the toolstack asks of the machine (privileged).

use abi::domctl::DomainInfo;
use abi::hypercall::Number;
use abi::sysctl::{
    Command, DebugKeys, DomainInfoList, INTERFACE_VERSION, PhysInfo, ReadConsole, Sysctl,
};
use abi::{DomId, Errno};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// # Safety
/// A pointer in the payload must be valid for what the monitor writes there.
unsafe fn operate<T: FromBytes + IntoBytes + Immutable>(
    command: Command,
    payload: &T,
) -> Result<T, Errno> {
    let mut argument =
        Sysctl { command: command.raw(), interface_version: INTERFACE_VERSION, payload: [0; 128] };
    payload.write_to_prefix(&mut argument.payload).map_err(|_| Errno::E2BIG)?;
    let pointer = core::ptr::from_mut(&mut argument).expose_provenance() as u64;
    // SAFETY: the structure of this hypercall; the rest is the caller's promise.
    unsafe { super::raw(Number::Sysctl, [pointer, 0, 0, 0, 0]) }?;
    T::read_from_prefix(&argument.payload).map(|(answer, _)| answer).map_err(|_| Errno::EINVAL)
}

/// Reads the monitor's log from `position` on; 0 is the oldest that is kept. Returns how many
/// bytes were written to `buffer`, and the position after them.
///
/// # Errors
/// What the monitor answers.
pub fn read_console(buffer: &mut [u8], position: u64) -> Result<(usize, u64), Errno> {
    let payload = ReadConsole {
        buffer: buffer.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
        position,
        ..Default::default()
    };
    // SAFETY: the monitor writes at most `count` bytes to the exclusively borrowed buffer.
    let answer = unsafe { operate(Command::ReadConsole, &payload) }?;
    let count = usize::try_from(answer.count).map_err(|_| Errno::EOVERFLOW)?;
    Ok((count.min(buffer.len()), answer.position))
}

/// Has the monitor write to its log how things stand, a view for each key.
///
/// # Errors
/// `EINVAL` if it does not know one of the keys, `E2BIG` if there are too many.
pub fn debug_keys(keys: &[u8]) -> Result<(), Errno> {
    let payload = DebugKeys {
        keys: keys.as_ptr().expose_provenance() as u64,
        count: u32::try_from(keys.len()).map_err(|_| Errno::E2BIG)?,
        ..Default::default()
    };
    // SAFETY: the monitor only reads the `count` bytes that the slice lends.
    unsafe { operate(Command::DebugKeys, &payload) }.map(drop)
}

/// Describes the machine.
///
/// # Errors
/// What the monitor answers.
pub fn phys_info() -> Result<PhysInfo, Errno> {
    // SAFETY: this payload names no memory.
    unsafe { operate(Command::PhysInfo, &PhysInfo::default()) }
}

/// Describes the domains from `first` on, as many as fit; returns how many.
///
/// # Errors
/// What the monitor answers.
pub fn domain_infos(first: DomId, infos: &mut [DomainInfo]) -> Result<usize, Errno> {
    let payload = DomainInfoList {
        first,
        max_domains: u32::try_from(infos.len()).unwrap_or(u32::MAX),
        buffer: infos.as_mut_ptr().expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: the monitor writes at most `max_domains` elements to the exclusively borrowed slice.
    let answer = unsafe { operate(Command::GetDomainInfoList, &payload) }?;
    let count = usize::try_from(answer.count).map_err(|_| Errno::EOVERFLOW)?;
    Ok(count.min(infos.len()))
}
