//! Mapping granted frames, and ending that. Statuses are Xen's.

use abi::grant::{MapFlags, MapGrantRef, Status, UnmapGrantRef};
use abi::{DomId, Gfn};

use super::Access;
use super::maptrack::Mapping;
use super::pins;
use crate::allocator::stage2::LeafKind;
use crate::allocator::{Monitor, Progress};
use crate::types::Mfn;

/// A mapping that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// To unmap by.
    pub handle: u32,
    /// The frame, for a device that `caller` drives.
    pub mfn: Mfn,
}

impl Monitor {
    /// Maps a frame that another domain grants to `caller`. No other page of the caller's moves.
    #[inline(always)]
    pub fn grant_map(&mut self, caller: DomId, request: &MapGrantRef) -> Result<Mapped, Status> {
        let access = requested_access(request.flags)?;
        let domains = self.domains.pair_mut(caller, request.dom).ok_or(Status::BadDomain)?;
        let (mapper, granter) = domains;
        if granter.is_dying() {
            return Err(Status::BadDomain);
        }
        let pool = &mut self.frames;
        let gfn = Gfn::containing(request.host_addr);
        mapper.grants.maptrack.reserve(pool, caller).or(Err(Status::NoDeviceSpace))?;
        let frame = pins::pin(
            &mut granter.grants,
            &granter.stage2,
            pool,
            request.reference,
            caller,
            access,
        )?;
        if mapper.stage2.map(pool, gfn, frame.mfn(), 0, leaf_kind(access)).is_err() {
            granter.grants.unpin(request.reference, access);
            return Err(Status::GeneralError);
        }
        pool.retain(frame);
        let mapping = Mapping::new(request.dom, request.reference, access, gfn);
        // There is room: it was reserved.
        let handle = mapper.grants.maptrack.insert(mapping).ok_or(Status::NoDeviceSpace)?;
        Ok(Mapped { handle, mfn: frame.mfn() })
    }

    /// Ends a mapping of `caller` and returns which frame it was of.
    #[inline(always)]
    pub fn grant_unmap(&mut self, caller: DomId, request: &UnmapGrantRef) -> Result<Mfn, Status> {
        if request.dev_bus_addr != 0 {
            self.check_bus_address(caller, request)?;
        }
        self.end_mapping(caller, request.handle, Gfn::containing(request.host_addr))
    }

    /// Whether a mapping is of the frame that the caller says.
    #[inline(never)]
    fn check_bus_address(&self, caller: DomId, request: &UnmapGrantRef) -> Result<(), Status> {
        let mapper = self.domains.get(caller).ok_or(Status::BadDomain)?;
        let mapping = mapper.grants.maptrack.get(request.handle).ok_or(Status::BadHandle)?;
        let leaf = mapper.stage2.lookup(mapping.gfn()).ok_or(Status::GeneralError)?;
        let same = leaf.mfn == Mfn::containing(request.dev_bus_addr);
        if same { Ok(()) } else { Err(Status::GeneralError) }
    }

    /// Removes the leaf before it unpins: when the granter sees that the entry is free, and when
    /// the frame may become somebody else's, nobody can reach it this way any more.
    #[inline(always)]
    fn end_mapping(&mut self, caller: DomId, handle: u32, gfn: Gfn) -> Result<Mfn, Status> {
        let mapper = self.domains.get_mut(caller).ok_or(Status::BadDomain)?;
        let maptrack = &mut mapper.grants.maptrack;
        let &Mapping { granter, reference, access, .. } = maptrack.take(handle, gfn)?;
        maptrack.trim(&mut self.frames);
        let leaf = mapper.stage2.unmap(&mut self.frames, gfn);
        if let Some(granter) = self.domains.get_mut(granter) {
            granter.grants.unpin(reference, access);
        }
        // A leaf of a grant goes by this way only, so it is there.
        let Ok(Some(leaf)) = leaf else { return Err(Status::GeneralError) };
        debug_assert!(leaf.kind.is_grant());
        if let Some(frame) = self.frames.ram(leaf.mfn) {
            self.frames.release(frame);
        }
        Ok(leaf.mfn)
    }

    /// Ends a bounded number of a dying domain's mappings, and when there are none left gives its
    /// own table back. Repeat until done.
    pub fn release_grants(&mut self, id: DomId) -> Progress {
        let Some(domain) = self.domains.get(id) else { return Progress::Done };
        let Some(handles) = domain.grants.maptrack.last_chunk() else {
            if let Some(domain) = self.domains.get_mut(id) {
                domain.grants.withdraw(&mut self.frames);
            }
            return Progress::Done;
        };
        for handle in handles {
            let domain = self.domains.get(id);
            if let Some(mapping) = domain.and_then(|d| d.grants.maptrack.get(handle)) {
                // It fails only if the leaf is gone, and then the rest was released.
                let _ = self.end_mapping(id, handle, mapping.gfn());
            }
        }
        if let Some(domain) = self.domains.get_mut(id) {
            domain.grants.maptrack.drop_last_chunk(&mut self.frames);
        }
        Progress::More
    }
}

fn requested_access(flags: u32) -> Result<Access, Status> {
    let flags = MapFlags::from_bits(flags).ok_or(Status::GeneralError)?;
    if !flags.contains(MapFlags::HOST_MAP) {
        return Err(Status::BadGrantRef);
    }
    Ok(if flags.contains(MapFlags::READONLY) { Access::Read } else { Access::Write })
}

fn leaf_kind(access: Access) -> LeafKind {
    match access {
        Access::Read => LeafKind::GrantReadOnly,
        Access::Write => LeafKind::GrantWritable,
    }
}
