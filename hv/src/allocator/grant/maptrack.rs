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
#[repr(C, align(16))]
struct Place {
    reference: GrantRef,
    gfn: u32,
    /// The next free place, `Maptrack::NONE`, or `Maptrack::USED` if this one is not free: then the
    /// other fields are a mapping.
    next: u32,
    granter: DomId,
    access: Access,
}

impl Place {
    const fn free(next: u32) -> Place {
        let (granter, access) = (DomId::INVALID, Access::Read);
        Place { reference: GrantRef(0), gfn: 0, next, granter, access }
    }

    #[inline(always)]
    fn mapping(&self) -> Option<Mapping> {
        let Place { reference, gfn, next, granter, access } = *self;
        (next == Maptrack::USED).then_some(Mapping { granter, access, reference, gfn })
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
        let Mapping { granter, access, reference, gfn } = mapping;
        let next = place.next;
        *place = Place { reference, gfn, next: Self::USED, granter, access };
        self.free = next;
        self.used += 1;
        Some(handle)
    }

    /// The mapping with this handle.
    pub(super) fn get(&self, handle: u32) -> Option<Mapping> {
        let chunk = self.chunks.get((handle / CHUNK) as usize)?;
        chunk.get((handle % CHUNK) as usize)?.mapping()
    }

    /// Forgets the mapping with this handle, if it is at `gfn`, and returns it. With the last one go
    /// all chunks but the first: a list that is hardly used would grow and shrink all the time
    /// without it.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        pool: &mut FramePool,
        handle: u32,
        gfn: Gfn,
    ) -> Result<Mapping, Status> {
        let next = self.free;
        let place = self.place_mut(handle).ok_or(Status::BadHandle)?;
        let mapping = place.mapping().ok_or(Status::BadHandle)?;
        if mapping.gfn() != gfn {
            return Err(Status::GeneralError);
        }
        place.next = next;
        self.free = handle;
        self.used -= 1;
        if self.used == 0 && self.chunks.len() > 1 {
            self.shrink(pool);
        }
        Ok(mapping)
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
