//! Hypercalls for which the kernel's library has no wrapper, because only a measurement makes them.

use core::arch::asm;

use pv_guest_kernel::abi::hypercall::{HVC_TAG, MulticallEntry, Number};
use pv_guest_kernel::abi::{DomId, Errno, Gfn, version};
use pv_guest_kernel::hypercall;
use pv_guest_kernel::memory::Page;

/// A number that no monitor knows.
const UNKNOWN: u64 = 63;
/// Null calls in a multicall.
pub const BATCH: usize = 8;

/// The call that does least: asks for the version.
#[inline(always)]
pub fn null() -> Result<u64, Errno> {
    // SAFETY: the command takes no pointer.
    unsafe { hypercall::raw(Number::XenVersion, [version::Command::Version.raw(), 0, 0, 0, 0]) }
}

/// A call that does not exist; returns x0.
#[inline(always)]
pub fn unknown() -> i64 {
    let mut x0 = 0_u64;
    // SAFETY: no such call, and no pointer among its arguments.
    unsafe {
        asm!("hvc {tag}", tag = const HVC_TAG, inout("x0") x0, inout("x16") UNKNOWN => _,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, options(nostack));
    }
    x0.cast_signed()
}

/// A multicall of [`BATCH`] null calls.
#[derive(Debug)]
pub struct NullCalls([MulticallEntry; BATCH]);

impl NullCalls {
    /// Prepares it.
    pub fn new() -> NullCalls {
        let call = MulticallEntry { op: Number::XenVersion.raw(), ..Default::default() };
        NullCalls([call; BATCH])
    }

    /// Makes it.
    #[inline(always)]
    pub fn make(&mut self) -> Result<u64, Errno> {
        let entries = self.0.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: the entries are of that number, exclusively borrowed, and name no memory.
        unsafe { hypercall::raw(Number::Multicall, [entries, BATCH as u64, 0, 0, 0]) }
    }

    /// What the last of them returned.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |entry| entry.result)
    }
}

/// Gives a page back to the monitor and takes a fresh one in its place.
#[inline(always)]
pub fn exchange(page: &mut Page) -> Result<(u64, u64), Errno> {
    let place: [Gfn; 1] = [page.gfn()];
    // SAFETY: the page is lent exclusively, and is there again afterwards, with other contents.
    let given = unsafe { hypercall::memory::decrease_reservation(0, &place) }?;
    Ok((given, hypercall::memory::populate_physmap(DomId::SELF, 0, &place)?))
}
