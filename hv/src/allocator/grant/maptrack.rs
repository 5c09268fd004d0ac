//! What a domain has mapped of others' grants. A handle is a place in this list.

use abi::{DomId, Gfn, GrantRef};
use heapless::Vec;

use super::Access;
use crate::allocator::frame::{FramePool, OutOfFrames};
use crate::allocator::frame_box::FrameBox;

/// Mappings in one chunk: as many as fit in a frame.
pub(super) const CHUNK: u32 = 256;
/// Chunks in a full list: 16384 mappings.
const CHUNKS: usize = 64;
const _: () = assert!(size_of::<[Place; CHUNK as usize]>() == abi::PAGE_SIZE);

/// One mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) granter: DomId,
    pub(super) access: Access,
    pub(super) reference: GrantRef,
    gfn: u32,
}

impl Mapping {
    /// `None` if there is no such guest frame: they have 28 bits at most.
    pub(super) fn new(
        granter: DomId,
        reference: GrantRef,
        access: Access,
        gfn: Gfn,
    ) -> Option<Mapping> {
        Some(Mapping { granter, access, reference, gfn: u32::try_from(gfn.0).ok()? })
    }

    /// Where it is in the mapper's space.
    pub(super) fn gfn(&self) -> Gfn {
        Gfn(u64::from(self.gfn))
    }
}

/// What a handle leads to.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Place {
    /// The mapping; meaningless if the place is free.
    mapping: Mapping,
    /// The next free place, `Maptrack::NONE`, or `Maptrack::USED` if this one is not free.
    next: u32,
}

impl Place {
    const fn free(next: u32) -> Place {
        let mapping = Mapping {
            granter: DomId::INVALID,
            access: Access::Read,
            reference: GrantRef(0),
            gfn: 0,
        };
        Place { mapping, next }
    }

    #[inline(always)]
    const fn is_used(&self) -> bool {
        self.next == Maptrack::USED
    }
}

/// A chunk whose places, which count from `first`, are all free.
fn free_places(first: u32) -> [Place; CHUNK as usize] {
    let mut places = [Place::free(Maptrack::NONE); CHUNK as usize];
    for (place, next) in places.iter_mut().zip(first + 1..first + CHUNK) {
        *place = Place::free(next);
    }
    places
}

/// A domain's mappings.
#[derive(Debug)]
pub(super) struct Maptrack {
    chunks: Vec<FrameBox<[Place; CHUNK as usize]>, CHUNKS>,
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

    #[inline(always)]
    fn place_mut(&mut self, handle: u32) -> Option<&mut Place> {
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
        if place.is_used() {
            return None;
        }
        let next = core::mem::replace(&mut place.next, Self::USED);
        place.mapping = mapping;
        self.free = next;
        self.used += 1;
        Some(handle)
    }

    /// The mapping with this handle.
    #[inline(always)]
    pub(super) fn get(&self, handle: u32) -> Option<Mapping> {
        let chunk = self.chunks.get((handle / CHUNK) as usize)?;
        let place = chunk.get((handle % CHUNK) as usize)?;
        place.is_used().then_some(place.mapping)
    }

    /// Forgets a mapping. With the last one go all chunks but the first: a list that is hardly
    /// used would grow and shrink all the time without it.
    #[inline(always)]
    pub(super) fn remove(&mut self, pool: &mut FramePool, handle: u32) {
        let next = self.free;
        let Some(place) = self.place_mut(handle).filter(|place| place.is_used()) else { return };
        place.next = next;
        self.free = handle;
        self.used -= 1;
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
