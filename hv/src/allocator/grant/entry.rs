//! One entry of the table that a granter shares with the monitor (public/grant_table.h, v1).
//!
//! The granter, on another CPU, may change any bit at any moment. The first word (flags and
//! grantee) is therefore taken as one value, checked, and claimed by compare-and-exchange: if that
//! succeeds, what was checked was what was there. The frame number is read once after that; an
//! honest granter does not change it while READING is set, a dishonest one harms itself.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use abi::grant::{ENTRIES_PER_FRAME, Entry, EntryFlags, Status};
use abi::{DomId, Gfn};

use super::Access;
use crate::machine::memory::RamFrame;

/// How often a claim is tried against a granter that keeps changing the entry. As many as Xen.
const ATTEMPTS: u32 = 5;

/// An entry, in RAM that the granter writes to as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedEntry {
    /// The flags in the low half, the grantee in the high half.
    header: &'static AtomicU32,
    frame: &'static AtomicU32,
    /// All of it.
    whole: &'static AtomicU64,
}

impl SharedEntry {
    /// Entry `index` of a frame of the table.
    #[inline(always)]
    pub(super) fn new(frame: RamFrame, index: usize) -> Self {
        let offset = index % ENTRIES_PER_FRAME as usize * size_of::<Entry>();
        SharedEntry {
            header: frame.u32(offset + offset_of!(Entry, flags)),
            frame: frame.u32(offset + offset_of!(Entry, frame)),
            whole: frame.u64(offset),
        }
    }

    /// Marks the entry as in use by `grantee` if it grants that, and returns the granter's frame.
    #[inline(always)]
    pub(super) fn claim(&self, grantee: DomId, access: Access) -> Result<Gfn, Status> {
        let seen = self.header.load(Relaxed);
        if let Err(changed) = self.mark(seen, grantee, access)? {
            self.claim_again(changed, grantee, access)?;
        }
        Ok(Gfn(u64::from(self.frame.load(Relaxed))))
    }

    /// Marks the entry if it is still as it was `seen`; if not, says how it is.
    #[inline(always)]
    fn mark(&self, seen: u32, grantee: DomId, access: Access) -> Result<Result<u32, u32>, Status> {
        check(seen, grantee, access)?;
        let marked = seen | u32::from(access.flags().bits());
        Ok(self.header.compare_exchange(seen, marked, Acquire, Relaxed))
    }

    #[cold]
    fn claim_again(&self, seen: u32, grantee: DomId, access: Access) -> Result<(), Status> {
        let mut seen = seen;
        for _ in 1..ATTEMPTS {
            match self.mark(seen, grantee, access)? {
                Ok(_) => return Ok(()),
                Err(changed) => seen = changed,
            }
        }
        Err(Status::GeneralError)
    }

    /// Takes marks back. What was done with the frame comes before.
    #[inline(always)]
    pub(super) fn release(&self, flags: EntryFlags) {
        if !flags.is_empty() {
            self.header.fetch_and(!u32::from(flags.bits()), Release);
        }
    }

    /// Exchanges two entries.
    pub(super) fn swap(&self, other: SharedEntry) {
        let (a, b) = (self.whole, other.whole);
        b.store(a.swap(b.load(Acquire), Release), Release);
    }
}

/// Whether an entry lets `grantee` in. Xen has one status for all that may be wrong with it.
#[inline(always)]
fn check(header: u32, grantee: DomId, access: Access) -> Result<(), Status> {
    let flags = EntryFlags::from_bits_retain(header as u16);
    let granted = flags & EntryFlags::TYPE_MASK == EntryFlags::PERMIT_ACCESS
        && DomId((header >> u16::BITS) as u16) == grantee
        && !flags.contains(SUB_PAGE)
        && (access == Access::Read || !flags.contains(EntryFlags::READONLY));
    if granted { Ok(()) } else { Err(Status::GeneralError) }
}

/// `GTF_sub_page`: only part of the frame is granted. Exists in version 2 only; an entry with it is
/// refused rather than taken for more than it says.
const SUB_PAGE: EntryFlags = EntryFlags::from_bits_retain(1 << 8);
