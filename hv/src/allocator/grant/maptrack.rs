//! What a domain has mapped of others' grants. A handle is a place in this list.

use abi::grant::Status;
use abi::{DomId, Gfn, GrantRef};
use heapless::Vec;

use super::Access;
use crate::allocator::frame::{FramePool, OutOfFrames};
use crate::allocator::frame_box::FrameBox;

/// Mappings in one chunk: as many as fit in a frame.
pub(super) const CHUNK: u32 = 256;
/// Chunks in a full list: 16384 mappings.
const CHUNKS: usize = 64;
const _: () = assert!(size_of::<[Mapping; CHUNK as usize]>() == abi::PAGE_SIZE);

/// One mapping, or a place for one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Mapping {
    /// By which reference.
    pub reference: GrantRef,
    /// Where it is in the mapper's space. Guest frames have 28 bits at most.
    gfn: u32,
    /// The next free place, `Maptrack::NONE`, or `Maptrack::USED` if this one is not free.
    next: u32,
    /// Whose.
    pub granter: DomId,
    /// What it is used for.
    pub access: Access,
}

impl Mapping {
    /// One at a guest frame that exists.
    #[inline(always)]
    pub(super) fn new(granter: DomId, reference: GrantRef, access: Access, gfn: Gfn) -> Mapping {
        Mapping { granter, access, reference, gfn: gfn.0 as u32, next: Maptrack::USED }
    }

    const fn free(next: u32) -> Mapping {
        let (granter, access) = (DomId::INVALID, Access::Read);
        Mapping { reference: GrantRef(0), gfn: 0, next, granter, access }
    }

    /// Where it is in the mapper's space.
    #[inline(always)]
    pub fn gfn(&self) -> Gfn {
        Gfn(u64::from(self.gfn))
    }
}

/// A chunk whose places, which count from `first`, are all free.
fn free_places(first: u32) -> [Mapping; CHUNK as usize] {
    let mut places = [Mapping::free(Maptrack::NONE); CHUNK as usize];
    for (place, next) in places.iter_mut().zip(first + 1..first + CHUNK) {
        *place = Mapping::free(next);
    }
    places
}

/// A domain's mappings.
#[derive(Debug)]
pub(super) struct Maptrack {
    chunks: Vec<FrameBox<[Mapping; CHUNK as usize]>, CHUNKS>,
    /// The first free place.
    free: u32,
    /// Places in use.
    used: u32,
}

impl Maptrack {
    /// No handle.
    const NONE: u32 = u32::MAX;
    /// No handle either.
    const USED: u32 = u32::MAX - 1;

    pub(super) const fn new() -> Self {
        Maptrack { chunks: Vec::new(), free: Self::NONE, used: 0 }
    }

    /// The places that are in use.
    pub(super) fn used(&self) -> impl Iterator<Item = &Mapping> {
        let places = self.chunks.iter().flat_map(|chunk| chunk.iter());
        places.filter(|place| place.next == Self::USED)
    }

    #[inline(always)]
    fn place_mut(&mut self, handle: u32) -> Option<&mut Mapping> {
        let chunk = self.chunks.get_mut((handle / CHUNK) as usize)?;
        chunk.get_mut((handle % CHUNK) as usize)
    }

    /// Makes room for one more mapping, charged to `owner`.
    #[inline]
    pub(super) fn reserve(
        &mut self,
        pool: &mut FramePool,
        owner: DomId,
    ) -> Result<(), OutOfFrames> {
        if self.free != Self::NONE { Ok(()) } else { self.grow(pool, owner) }
    }

    #[cold]
    fn grow(&mut self, pool: &mut FramePool, owner: DomId) -> Result<(), OutOfFrames> {
        if self.chunks.is_full() {
            return Err(OutOfFrames::OverBudget);
        }
        let first = self.chunks.len() as u32 * CHUNK;
        let chunk = FrameBox::new(pool, owner, free_places(first))?;
        self.chunks.push(chunk).or(Err(OutOfFrames::OverBudget))?;
        self.free = first;
        Ok(())
    }

    /// Adds a mapping and returns its handle. There must be room ([`Maptrack::reserve`]).
    #[inline(always)]
    pub(super) fn insert(&mut self, mapping: Mapping) -> Option<u32> {
        let handle = self.free;
        let place = self.place_mut(handle)?;
        let next = place.next;
        *place = mapping;
        self.free = next;
        self.used += 1;
        Some(handle)
    }

    /// The mapping with this handle.
    pub(super) fn get(&self, handle: u32) -> Option<Mapping> {
        let chunk = self.chunks.get((handle / CHUNK) as usize)?;
        let mapping = chunk.get((handle % CHUNK) as usize)?;
        (mapping.next == Self::USED).then_some(*mapping)
    }

    /// Forgets the mapping with this handle, if it is at `gfn`; what it was is left to be read.
    /// Call [`Maptrack::trim`] afterwards.
    #[inline(always)]
    pub(super) fn take(&mut self, handle: u32, gfn: Gfn) -> Result<&Mapping, Status> {
        let chunk = self.chunks.get_mut((handle / CHUNK) as usize).ok_or(Status::BadHandle)?;
        let mapping = chunk.get_mut((handle % CHUNK) as usize).ok_or(Status::BadHandle)?;
        if mapping.next != Self::USED {
            return Err(Status::BadHandle);
        }
        if mapping.gfn() != gfn {
            return Err(Status::GeneralError);
        }
        mapping.next = self.free;
        self.free = handle;
        self.used -= 1;
        Ok(mapping)
    }

    /// With the last mapping go all chunks but the first: a list that is hardly used would grow and
    /// shrink all the time without it.
    #[inline(always)]
    pub(super) fn trim(&mut self, pool: &mut FramePool) {
        if self.used == 0 && self.chunks.len() > 1 {
            self.shrink(pool);
        }
    }

    #[cold]
    fn shrink(&mut self, pool: &mut FramePool) {
        while self.chunks.len() > 1 {
            self.drop_last_chunk(pool);
        }
        if let Some(chunk) = self.chunks.first_mut() {
            **chunk = free_places(0);
            self.free = 0;
        }
    }

    /// The handles of the last chunk, if there is one.
    pub(super) fn last_chunk(&self) -> Option<core::ops::Range<u32>> {
        let first = self.chunks.len().checked_sub(1)? as u32 * CHUNK;
        Some(first..first + CHUNK)
    }

    /// Gives the last chunk back; its mappings have ended. No mapping may be added afterwards.
    pub(super) fn drop_last_chunk(&mut self, pool: &mut FramePool) {
        self.free = Self::NONE;
        if let Some(chunk) = self.chunks.pop() {
            chunk.free(pool);
        }
    }
}
