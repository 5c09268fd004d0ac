//! Grants: which frames a domain lets others use, and which of others' it has mapped.
//!
//! This file owns a domain's [`GrantTable`]. It has two halves. As a *granter* the domain shares
//! table frames with the monitor and writes entries there ([`entry`]); beside each frame the
//! monitor keeps what it has let others map (`Pins`), because what the guest wrote may
//! change at any time. As a *mapper* it has the list of its mappings ([`maptrack`]). The operations
//! concern two domains and are methods of the monitor: [`map`], [`copy`].
//!
//! What always holds:
//! - An entry's grantee and frame are read once, when its first pin is taken; every later mapping
//!   of a pinned entry gets the same frame, whatever the entry says by then.
//! - Each mapping is one pin of its granter's entry, one hold of the frame, and one leaf in the
//!   mapper's space that only the end of the mapping removes.
//! - READING is set while an entry is pinned, WRITING while it is pinned for writing: until then
//!   the granter can see that it must not take the frame back. (It can ignore that; the frame
//!   still is nobody else's before the last mapping ends.)
//! - When a granter dies its table goes at once. The holds keep its frames until the mappings end.

mod copy;
mod entry;
mod map;
mod maptrack;
mod pins;
#[cfg(test)]
mod tests;

use abi::grant::{ENTRIES_PER_FRAME, EntryFlags, Status};
use abi::{DomId, Errno, GrantRef};
use heapless::Vec;

use self::entry::SharedEntry;
use self::maptrack::Maptrack;
use self::pins::Pins;
use super::frame::{FramePool, Kind, OutOfFrames};
use super::frame_box::FrameBox;
use super::stage2::Stage2;
use crate::machine::memory::RamFrame;

pub use map::Mapped;
pub use maptrack::Mapping;

/// The most frames that any domain's table may have.
pub const MAX_FRAMES: usize = 64;

/// What a user of a grant does with the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Reads and writes it.
    Write,
}

impl Access {
    /// What the monitor sets in the entry meanwhile.
    const fn flags(self) -> EntryFlags {
        match self {
            Access::Read => EntryFlags::READING,
            Access::Write => EntryFlags::READING.union(EntryFlags::WRITING),
        }
    }
}

/// One frame of the table, and the monitor's knowledge of its entries.
#[derive(Debug)]
struct TableFrame {
    shared: RamFrame,
    pins: FrameBox<[Pins; ENTRIES_PER_FRAME as usize]>,
}

/// A domain's grants.
#[derive(Debug)]
pub struct GrantTable {
    frames: Vec<TableFrame, MAX_FRAMES>,
    max_frames: u32,
    pinned: u64,
    maptrack: Maptrack,
}

impl GrantTable {
    /// An empty table that may grow to `max_frames`, at most [`MAX_FRAMES`].
    pub const fn new(max_frames: u32) -> Self {
        let limit = MAX_FRAMES as u32;
        GrantTable {
            frames: Vec::new(),
            max_frames: if max_frames < limit { max_frames } else { limit },
            pinned: 0,
            maptrack: Maptrack::new(),
        }
    }

    /// Makes room for the first mappings of others' grants before there are any: for a domain that
    /// will have some for sure.
    pub fn prepare_to_map(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
    ) -> Result<(), OutOfFrames> {
        self.maptrack.reserve(pool, owner)
    }

    /// Mappings of the domain's frames that other domains hold.
    pub fn mappings_by_others(&self) -> u64 {
        self.pinned
    }

    /// What it has mapped of others' grants.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.maptrack.used()
    }

    /// Frames that the table has.
    pub fn size(&self) -> u32 {
        self.frames.len() as u32
    }

    /// Frames that it may have.
    pub fn max_size(&self) -> u32 {
        self.max_frames
    }

    /// A frame of the table, for its owner to map. The table grows to have it. `EINVAL` beyond its
    /// greatest size, `ENOMEM` if it cannot grow.
    pub fn shared_frame(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
        index: u32,
    ) -> Result<RamFrame, Errno> {
        self.grow(pool, owner, index.checked_add(1).ok_or(Errno::EINVAL)?)?;
        self.frames.get(index as usize).map(|frame| frame.shared).ok_or(Errno::EINVAL)
    }

    /// Makes the table at least `size` frames long. `EINVAL` beyond its greatest size, `ENOMEM` if
    /// there are no frames.
    pub fn grow(&mut self, pool: &mut FramePool, owner: DomId, size: u32) -> Result<(), Errno> {
        if size > self.max_frames {
            return Err(Errno::EINVAL);
        }
        while self.size() < size {
            let pins = [Pins::default(); ENTRIES_PER_FRAME as usize];
            let pins = FrameBox::new(pool, owner, pins)?;
            let shared = match pool.allocate(owner, Kind::Shared, 0) {
                Ok(shared) => shared,
                Err(error) => {
                    pins.free(pool);
                    return Err(error.into());
                }
            };
            // There is room: `max_frames` is at most the capacity.
            self.frames.push(TableFrame { shared, pins }).or(Err(Errno::EINVAL))?;
        }
        Ok(())
    }

    /// Exchanges two entries, unless one is in use.
    pub fn swap(&mut self, first: GrantRef, second: GrantRef) -> Result<(), Status> {
        let (a, a_pins) = self.entry(first).ok_or(Status::BadGrantRef)?;
        let (b, b_pins) = self.entry(second).ok_or(Status::BadGrantRef)?;
        if a_pins.any() || b_pins.any() {
            return Err(Status::Again);
        }
        a.swap(b);
        Ok(())
    }

    /// An entry, and what is known of it.
    #[inline(always)]
    fn entry(&self, reference: GrantRef) -> Option<(SharedEntry, &Pins)> {
        let frame = self.frames.get((reference.0 / ENTRIES_PER_FRAME) as usize)?;
        let index = (reference.0 % ENTRIES_PER_FRAME) as usize;
        Some((SharedEntry::new(frame.shared, index), frame.pins.get(index)?))
    }

    #[inline(always)]
    fn entry_mut(&mut self, reference: GrantRef) -> Option<(SharedEntry, &mut Pins)> {
        let frame = self.frames.get_mut((reference.0 / ENTRIES_PER_FRAME) as usize)?;
        let index = (reference.0 % ENTRIES_PER_FRAME) as usize;
        Some((SharedEntry::new(frame.shared, index), frame.pins.get_mut(index)?))
    }

    /// Gives the table's frames back.
    fn withdraw(&mut self, pool: &mut FramePool) {
        while let Some(frame) = self.frames.pop() {
            pool.release(frame.shared);
            frame.pins.free(pool);
        }
    }
}

/// A frame of a domain's own RAM: the only kind that it may grant or copy from.
#[inline(always)]
fn own_ram(space: &Stage2, gfn: abi::Gfn) -> Result<RamFrame, Status> {
    space.own_ram(gfn).ok_or(Status::BadPage)
}
