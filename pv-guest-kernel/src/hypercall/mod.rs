//! Typed wrappers around the hypercalls, one file for each number. Arguments travel by pointer,
//! so only these know which structure belongs to which command.

pub mod domctl;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;

use abi::Errno;
use abi::hypercall::Number;

use crate::machine;

/// Makes any hypercall.
///
/// # Errors
/// What the monitor answers.
///
/// # Safety
/// The arguments must be right for the call: pointers in them must be valid for what the monitor
/// reads and writes there, and the call must not take away memory that this kernel uses.
#[inline]
pub unsafe fn raw(number: Number, arguments: [u64; 5]) -> Result<u64, Errno> {
    // SAFETY: the caller's promise.
    let result = unsafe { machine::hypercall(number, arguments) };
    Errno::check(result)
}

/// Makes a call of the common form: command in x0, pointer to one structure in x1.
///
/// # Safety
/// `T` must be the structure of that command, and what it says must not take away memory that
/// this kernel uses.
#[inline]
unsafe fn with_argument<T>(number: Number, command: u64, argument: &mut T) -> Result<u64, Errno> {
    let pointer = core::ptr::from_mut(argument).expose_provenance() as u64;
    // SAFETY: the pointer is to an exclusive borrow that outlives the call; the rest is the
    // caller's promise.
    unsafe { raw(number, [command, pointer, 0, 0, 0]) }
}

/// Writes to the monitor's own console.
///
/// # Errors
/// `EPERM` from a monitor that reserves its console for the privileged domain.
pub fn console_write(bytes: &[u8]) -> Result<u64, Errno> {
    let command = abi::console::Command::Write.raw();
    let arguments = [command, bytes.len() as u64, bytes.as_ptr().expose_provenance() as u64, 0, 0];
    // SAFETY: the monitor only reads the bytes that the slice lends.
    unsafe { raw(Number::ConsoleIo, arguments) }
}

/// Reads from the monitor's own console without waiting; returns how many bytes there were.
///
/// # Errors
/// `EPERM` for all but the privileged domain.
pub fn console_read(buffer: &mut [u8]) -> Result<usize, Errno> {
    let command = abi::console::Command::Read.raw();
    let arguments =
        [command, buffer.len() as u64, buffer.as_mut_ptr().expose_provenance() as u64, 0, 0];
    // SAFETY: the monitor writes at most the bytes that the slice lends.
    let count = unsafe { raw(Number::ConsoleIo, arguments) }?;
    Ok(usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len())))
}
