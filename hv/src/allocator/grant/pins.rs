//! What the monitor knows of a granter's entry while others map it.

use abi::grant::{Entry, EntryFlags, Status};
use abi::{DomId, GrantRef};

use super::entry::SharedEntry;
use super::{Access, GrantTable, own_ram};
use crate::allocator::frame::FramePool;
use crate::allocator::stage2::Stage2;
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// Who maps an entry's frame, and how often. As large as the entry: the pins of a frame of the
/// table take one frame.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Pins {
    /// The frame's number; meaningless without pins. Those of RAM have 32 bits (`FramePool::fill`).
    frame: u32,
    grantee: DomId,
    /// Mappings: at most 255. Xen counts to 128 for each kind.
    count: u8,
    /// Those among them that may write.
    writers: u8,
}

const _: () = assert!(size_of::<Pins>() == size_of::<Entry>());

impl Default for Pins {
    fn default() -> Self {
        Pins { frame: 0, grantee: DomId::INVALID, count: 0, writers: 0 }
    }
}

impl Pins {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// The frame, if there is one pinned. Another grantee than the first is refused.
    #[inline(always)]
    pub(super) fn frame_for(&self, grantee: DomId) -> Result<Option<Mfn>, Status> {
        match self.count {
            0 => Ok(None),
            _ if self.grantee == grantee => Ok(Some(Mfn(u64::from(self.frame)))),
            _ => Err(Status::GeneralError),
        }
    }

    /// The marks that these pins keep set in the entry.
    #[inline(always)]
    pub(super) fn marks(&self) -> EntryFlags {
        let mut marks = EntryFlags::empty();
        marks.set(EntryFlags::READING, self.count > 0);
        marks.set(EntryFlags::WRITING, self.writers > 0);
        marks
    }

    /// Those of a frame that was not pinned.
    #[inline(always)]
    fn first(frame: Mfn, grantee: DomId, access: Access) -> Pins {
        Pins {
            frame: frame.0 as u32,
            grantee,
            count: 1,
            writers: u8::from(access == Access::Write),
        }
    }

    /// Takes one away. Returns the marks that the others need not.
    #[inline(always)]
    fn remove(&mut self, access: Access) -> EntryFlags {
        let mut needless = EntryFlags::empty();
        self.count = self.count.saturating_sub(1);
        needless.set(EntryFlags::READING, self.count == 0);
        if access == Access::Write {
            self.writers = self.writers.saturating_sub(1);
            needless.set(EntryFlags::WRITING, self.writers == 0);
        }
        needless
    }
}

/// Pins one more mapping by `grantee` of what `reference` grants, and returns the frame, which is
/// in the granter's `space`.
#[inline(always)]
pub(super) fn pin(
    granter: &mut GrantTable,
    space: &Stage2,
    pool: &FramePool,
    reference: GrantRef,
    grantee: DomId,
    access: Access,
) -> Result<RamFrame, Status> {
    let (entry, pins) = granter.entry_mut(reference).ok_or(Status::BadGrantRef)?;
    let frame = match pins.frame_for(grantee)? {
        Some(mfn) => pin_again(entry, pins, pool, mfn, access)?,
        None => {
            let gfn = entry.claim(grantee, access)?;
            let frame = own_ram(space, gfn).inspect_err(|_| entry.release(access.flags()))?;
            *pins = Pins::first(frame.mfn(), grantee, access);
            frame
        }
    };
    granter.pinned += 1;
    Ok(frame)
}

/// Pins an entry that is pinned already. A first writer must be allowed to write.
#[inline(never)]
fn pin_again(
    entry: SharedEntry,
    pins: &mut Pins,
    pool: &FramePool,
    mfn: Mfn,
    access: Access,
) -> Result<RamFrame, Status> {
    let frame = pool.ram(mfn).ok_or(Status::BadPage)?;
    let count = pins.count.checked_add(1).ok_or(Status::GeneralError)?;
    if !pins.marks().contains(access.flags()) {
        entry.claim(pins.grantee, access)?;
    }
    // There are no more writers than mappings.
    *pins = Pins { count, writers: pins.writers + u8::from(access == Access::Write), ..*pins };
    Ok(frame)
}

impl GrantTable {
    /// Undoes one [`pin`]. Nothing happens if the table is gone: its owner is dying.
    #[inline(always)]
    pub(super) fn unpin(&mut self, reference: GrantRef, access: Access) {
        let Some((entry, pins)) = self.entry_mut(reference) else { return };
        entry.release(pins.remove(access));
        self.pinned = self.pinned.wrapping_sub(1);
    }
}
