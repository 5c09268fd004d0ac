//! What the monitor knows of a granter's entry while others map it.

use abi::grant::{EntryFlags, Status};
use abi::{DomId, GrantRef};

use super::{Access, GrantTable, own_ram};
use crate::allocator::frame::FramePool;
use crate::allocator::stage2::Stage2;
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// Who maps an entry's frame, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pins {
    /// The frame; meaningless without pins.
    frame: Mfn,
    grantee: DomId,
    /// Mappings.
    count: u16,
    /// Those among them that may write.
    writers: u16,
}

const _: () = assert!(size_of::<Pins>() == 16);

impl Default for Pins {
    fn default() -> Self {
        Pins { frame: Mfn(0), grantee: DomId::INVALID, count: 0, writers: 0 }
    }
}

impl Pins {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// The frame, if there is one pinned. Another grantee than the first is refused.
    #[inline]
    pub(super) fn frame_for(&self, grantee: DomId) -> Result<Option<Mfn>, Status> {
        match self.count {
            0 => Ok(None),
            _ if self.grantee == grantee => Ok(Some(self.frame)),
            _ => Err(Status::GeneralError),
        }
    }

    /// The marks that these pins keep set in the entry.
    #[inline]
    pub(super) fn marks(&self) -> EntryFlags {
        let mut marks = EntryFlags::empty();
        marks.set(EntryFlags::READING, self.count > 0);
        marks.set(EntryFlags::WRITING, self.writers > 0);
        marks
    }

    fn add(&mut self, access: Access) -> Result<(), Status> {
        self.count = self.count.checked_add(1).ok_or(Status::GeneralError)?;
        self.writers += u16::from(access == Access::Write);
        Ok(())
    }

    fn remove(&mut self, access: Access) {
        self.count = self.count.saturating_sub(1);
        self.writers = self.writers.saturating_sub(u16::from(access == Access::Write));
    }
}

/// Pins one more mapping by `grantee` of what `reference` grants, and returns the frame, which is
/// in the granter's `space`.
pub(super) fn pin(
    granter: &mut GrantTable,
    space: &Stage2,
    pool: &FramePool,
    reference: GrantRef,
    grantee: DomId,
    access: Access,
) -> Result<RamFrame, Status> {
    let (entry, pins) = granter.entry(reference).ok_or(Status::BadGrantRef)?;
    let mut pins = *pins;
    let pinned = pins.frame_for(grantee)?;
    let held = pins.marks();
    pins.add(access)?;
    let frame = match pinned {
        Some(mfn) if held.contains(access.flags()) => pool.ram(mfn).ok_or(Status::BadPage)?,
        Some(mfn) => {
            entry.claim(grantee, access)?;
            pool.ram(mfn).ok_or(Status::BadPage)?
        }
        None => {
            let gfn = entry.claim(grantee, access)?;
            own_ram(space, gfn).inspect_err(|_| entry.release(access.flags()))?
        }
    };
    granter.store(reference, Pins { frame: frame.mfn(), grantee, ..pins });
    granter.pinned += 1;
    Ok(frame)
}

impl GrantTable {
    fn store(&mut self, reference: GrantRef, pins: Pins) {
        if let Some((_, stored)) = self.entry_mut(reference) {
            *stored = pins;
        }
    }

    /// Undoes one [`pin`]. Nothing happens if the table is gone: its owner is dying.
    pub(super) fn unpin(&mut self, reference: GrantRef, access: Access) {
        let Some((entry, pins)) = self.entry_mut(reference) else { return };
        let before = pins.marks();
        pins.remove(access);
        entry.release(before.difference(pins.marks()));
        self.pinned = self.pinned.saturating_sub(1);
    }
}
