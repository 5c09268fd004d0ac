//! A domain's guest-physical space together with the frames behind it: what `memory_op` changes.
//!
//! A [`Physmap`] keeps the two in step. What a leaf says of its frame's holds:
//! - [`LeafKind::Ram`]: none of its own. The owner's hold ends when the leaf is removed, except in
//!   a domain that is mapped one to one: its frames stay its own, at their only possible place.
//! - [`LeafKind::Foreign`], [`LeafKind::SharedPage`]: one hold. Nothing else holds a shared page
//!   beside the owner, so a second hold means that it is mapped.
//! - Grant mappings: one hold, which belongs to the grant; only its end removes the leaf.
//! - [`LeafKind::Device`]: it is no RAM.
//!
//! Mapping where RAM, a foreign frame or a shared page is mapped already removes that first, as
//! guests expect who place the shared-info page over some RAM of theirs.

#[cfg(test)]
mod tests;

use abi::{DomId, Errno, Gfn};

use super::domain::Domain;
use super::frame::{FramePool, Kind, MAX_ORDER};
use super::stage2::{Leaf, LeafKind, MapError};
use super::{Monitor, Privileged};
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// A domain that is not dying, and the pool.
#[derive(Debug)]
pub struct Physmap<'a> {
    domain: &'a mut Domain,
    frames: &'a mut FramePool,
}

impl Monitor {
    /// A domain's space. `ESRCH` if there is no such domain, `EINVAL` if it is dying.
    pub fn physmap(&mut self, id: DomId) -> Result<Physmap<'_>, Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        if domain.is_dying() {
            return Err(Errno::EINVAL);
        }
        Ok(Physmap { domain, frames: &mut self.frames })
    }

    /// Maps a frame of `from`'s RAM into the space of `into`. The leaf holds the frame.
    pub fn map_foreign(
        &mut self,
        _: Privileged,
        into: DomId,
        gfn: Gfn,
        from: DomId,
        from_gfn: Gfn,
    ) -> Result<(), Errno> {
        if into == from {
            return Err(Errno::EPERM);
        }
        let source = self.domains.get(from).ok_or(Errno::ESRCH)?;
        let leaf = source.stage2.lookup(from_gfn).filter(|leaf| leaf.kind == LeafKind::Ram);
        let mfn = leaf.filter(|_| !source.is_dying()).ok_or(Errno::EINVAL)?.mfn;
        let frame = self.frames.ram(mfn).ok_or(Errno::EINVAL)?;
        self.physmap(into)?.map_held(gfn, frame, LeafKind::Foreign)
    }

    /// Finds a frame of a domain's own RAM by its guest frame number and holds it, for a record
    /// that the monitor will write to. Drop the hold with [`FramePool::release`].
    pub fn hold_ram(&mut self, id: DomId, gfn: Gfn) -> Result<RamFrame, Errno> {
        let space = self.physmap(id)?;
        let leaf = space.domain.stage2.lookup(gfn).filter(|leaf| leaf.kind == LeafKind::Ram);
        let frame = leaf.and_then(|leaf| space.frames.ram(leaf.mfn)).ok_or(Errno::EINVAL)?;
        space.frames.retain(frame);
        Ok(frame)
    }
}

impl Physmap<'_> {
    /// Gives the domain `2^order` frames of RAM at `gfn`. A domain that is mapped one to one gets
    /// back its own frames of that number.
    #[inline]
    pub fn populate(&mut self, gfn: Gfn, order: u8) -> Result<(), Errno> {
        if order > MAX_ORDER {
            return Err(Errno::EINVAL);
        }
        if self.domain.direct_mapped {
            return self.for_each_page(gfn, order, Self::populate_direct);
        }
        let id = self.domain.id;
        let frame = match self.frames.allocate(id, Kind::Ram, order) {
            Ok(frame) => frame,
            Err(_) => self.allocate_in_place(gfn, order)?,
        };
        self.map_over(gfn, frame, order, LeafKind::Ram)
            .inspect_err(|_| self.frames.release_block(frame, order))
    }

    /// What is given up for an allocation may make room for it.
    #[cold]
    fn allocate_in_place(&mut self, gfn: Gfn, order: u8) -> Result<RamFrame, Errno> {
        self.clear(gfn, order)?;
        Ok(self.frames.allocate(self.domain.id, Kind::Ram, order)?)
    }

    fn populate_direct(&mut self, gfn: Gfn) -> Result<(), Errno> {
        let mfn = Mfn(gfn.0);
        let own = self.frames.owner(mfn) == Some(self.domain.id);
        if !own || self.frames.kind(mfn) != Kind::Ram {
            return Err(Errno::EINVAL);
        }
        Ok(self.domain.stage2.map(self.frames, gfn, mfn, 0, LeafKind::Ram)?)
    }

    /// Gives RAM to a domain that is mapped one to one, while it is being built: contiguous,
    /// aligned to 2 MiB, mapped. Returns the first frame.
    pub fn populate_contiguous(&mut self, frames: u64) -> Result<RamFrame, Errno> {
        let first = self.frames.allocate_contiguous(self.domain.id, frames)?;
        let mfns = first.mfn().0..first.mfn().0.saturating_add(frames);
        self.map_direct(mfns, LeafKind::Ram)?;
        Ok(first)
    }

    /// Maps device registers one to one. The boot code answers for their being no RAM.
    pub fn map_device(&mut self, _: Privileged, mfns: core::ops::Range<u64>) -> Result<(), Errno> {
        self.domain.maps_devices = true;
        self.map_direct(mfns, LeafKind::Device)
    }

    fn map_direct(&mut self, mfns: core::ops::Range<u64>, kind: LeafKind) -> Result<(), Errno> {
        let mut next = mfns.start;
        while next < mfns.end {
            let whole = next.is_multiple_of(1 << MAX_ORDER) && mfns.end - next >= 1 << MAX_ORDER;
            let order = if whole { MAX_ORDER } else { 0 };
            self.domain.stage2.map(self.frames, Gfn(next), Mfn(next), order, kind)?;
            next += 1 << order;
        }
        Ok(())
    }

    /// Gives the domain `2^order` frames of RAM that are mapped nowhere.
    pub fn increase(&mut self, order: u8) -> Result<(), Errno> {
        if order > MAX_ORDER {
            return Err(Errno::EINVAL);
        }
        self.frames.allocate(self.domain.id, Kind::Ram, order)?;
        Ok(())
    }

    /// Takes back `2^order` frames of RAM at `gfn`. Stops with `EINVAL` at the first page that is
    /// not the domain's RAM.
    #[inline]
    pub fn decrease(&mut self, gfn: Gfn, order: u8) -> Result<(), Errno> {
        match order {
            0 => self.decrease_page(gfn),
            1..=MAX_ORDER => self.for_each_page(gfn, order, Self::decrease_page),
            _ => Err(Errno::EINVAL),
        }
    }

    #[inline(always)]
    fn decrease_page(&mut self, gfn: Gfn) -> Result<(), Errno> {
        let leaf = self.domain.stage2.unmap_if(self.frames, gfn, |kind| match kind {
            LeafKind::Ram => Ok(()),
            _ => Err(Errno::EINVAL),
        })?;
        self.give_up(leaf.ok_or(Errno::EINVAL)?);
        Ok(())
    }

    /// Removes a page, whatever it is. `ENOENT` if there is none, `EBUSY` if it is a grant that
    /// the domain has mapped, `EPERM` if it is a device.
    pub fn remove(&mut self, gfn: Gfn) -> Result<(), Errno> {
        let leaf = self.domain.stage2.unmap_if(self.frames, gfn, |kind| match kind {
            LeafKind::GrantWritable | LeafKind::GrantReadOnly => Err(Errno::EBUSY),
            LeafKind::Device => Err(Errno::EPERM),
            LeafKind::Ram | LeafKind::Foreign | LeafKind::SharedPage => Ok(()),
        })?;
        self.give_up(leaf.ok_or(Errno::ENOENT)?);
        Ok(())
    }

    /// Drops the hold that a leaf had, which is no more.
    #[inline(always)]
    fn give_up(&mut self, leaf: Leaf) {
        match leaf.kind {
            LeafKind::Ram if self.domain.direct_mapped => {}
            LeafKind::Ram => self.frames.surrender(leaf.mfn),
            _ => {
                if let Some(frame) = self.frames.ram(leaf.mfn) {
                    self.frames.release(frame);
                }
            }
        }
    }

    /// Maps the shared-info page. `EBUSY` if it is mapped already: the guest must remove it first.
    pub fn map_shared_info(&mut self, gfn: Gfn) -> Result<(), Errno> {
        self.map_shared(gfn, self.domain.shared_info)
    }

    /// Maps a frame of the grant table, which grows to have it. `EBUSY` as above.
    pub fn map_grant_table(&mut self, gfn: Gfn, index: u32) -> Result<(), Errno> {
        let Domain { id, grants, .. } = &mut *self.domain;
        let frame = grants.shared_frame(self.frames, *id, index)?;
        self.map_shared(gfn, frame)
    }

    fn map_shared(&mut self, gfn: Gfn, frame: RamFrame) -> Result<(), Errno> {
        if self.frames.holds(frame.mfn()) > 1 {
            return Err(Errno::EBUSY);
        }
        self.map_held(gfn, frame, LeafKind::SharedPage)
    }

    fn map_held(&mut self, gfn: Gfn, frame: RamFrame, kind: LeafKind) -> Result<(), Errno> {
        self.map_over(gfn, frame, 0, kind)?;
        self.frames.retain(frame);
        Ok(())
    }

    /// Maps a block, in place of what is mapped there. Mostly nothing is.
    #[inline(always)]
    fn map_over(
        &mut self,
        gfn: Gfn,
        frame: RamFrame,
        order: u8,
        kind: LeafKind,
    ) -> Result<(), Errno> {
        match self.domain.stage2.map(self.frames, gfn, frame.mfn(), order, kind) {
            Err(MapError::Occupied) => {
                self.clear(gfn, order)?;
                Ok(self.domain.stage2.map(self.frames, gfn, frame.mfn(), order, kind)?)
            }
            result => Ok(result?),
        }
    }

    /// Removes what is mapped in a range, if anything is.
    #[cold]
    fn clear(&mut self, gfn: Gfn, order: u8) -> Result<(), Errno> {
        self.for_each_page(gfn, order, |space, gfn| match space.remove(gfn) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        })
    }

    #[inline(never)]
    fn for_each_page(
        &mut self,
        gfn: Gfn,
        order: u8,
        mut each: impl FnMut(&mut Self, Gfn) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        (0..1 << order)
            .try_for_each(|offset| each(self, gfn.checked_add(offset).ok_or(Errno::EINVAL)?))
    }
}
