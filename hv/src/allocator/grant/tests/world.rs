//! Three domains with RAM of different contents, and what their kernels do with grant entries.

use core::sync::atomic::Ordering::SeqCst;

use abi::grant::{
    Copy, CopyEnd, CopyFlags, EntryFlags, MapFlags, MapGrantRef, Status, UnmapGrantRef,
};
use abi::{DomId, Gfn, GrantRef};

use crate::allocator::frame::Kind;
use crate::allocator::grant::{Access, Mapped};
use crate::allocator::stage2::{Leaf, LeafKind};
use crate::allocator::testing::{self, PRIVILEGED};
use crate::allocator::{Monitor, Progress};
use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// Frames of RAM that each domain has, from guest frame 0.
pub(super) const RAM: u64 = 4;
/// Where the domains map grants.
pub(super) const WINDOW: u64 = 0x1000;

pub(super) struct World {
    pub(super) monitor: Monitor,
    pub(super) domains: [DomId; 3],
    /// Free frames before there was any domain.
    pub(super) free: u64,
}

impl World {
    pub(super) fn new() -> World {
        let mut monitor = testing::monitor(2048);
        let free = monitor.frames.free();
        let domains = [(); 3].map(|()| testing::create(&mut monitor, 64));
        for id in domains {
            let domain = monitor.domains.get_mut(id).unwrap();
            domain.grants.grow(&mut monitor.frames, id, 1).unwrap();
            for gfn in 0..RAM {
                let frame = monitor.frames.allocate(id, Kind::Ram, 0).unwrap();
                frame.write(0, &[(16 * id.0 as u8) + gfn as u8 + 1; 4096]);
                let (pool, stage2) = (&mut monitor.frames, &mut domain.stage2);
                stage2.map(pool, Gfn(gfn), frame.mfn(), 0, LeafKind::Ram).unwrap();
            }
        }
        World { monitor, domains, free }
    }

    pub(super) fn leaf(&self, id: DomId, gfn: u64) -> Option<Leaf> {
        self.monitor.domains.get(id)?.stage2.lookup(Gfn(gfn))
    }

    pub(super) fn mfn(&self, id: DomId, gfn: u64) -> Mfn {
        self.leaf(id, gfn).unwrap().mfn
    }

    pub(super) fn frame(&self, id: DomId, gfn: u64) -> RamFrame {
        self.monitor.frames.ram(self.mfn(id, gfn)).unwrap()
    }

    /// The first frame of a domain's table, as the domain sees it.
    pub(super) fn table(&self, id: DomId) -> RamFrame {
        self.monitor.domains.get(id).unwrap().grants.frames[0].shared
    }

    /// Grants a frame as Linux does: the frame and the grantee first, then the flags.
    pub(super) fn grant(&self, id: DomId, reference: u32, to: DomId, gfn: u64, access: Access) {
        let table = self.table(id);
        table.u32(8 * reference as usize + 4).store(gfn as u32, SeqCst);
        let mut flags = EntryFlags::PERMIT_ACCESS;
        flags.set(EntryFlags::READONLY, access == Access::Read);
        let header = u32::from(flags.bits()) | u32::from(to.0) << 16;
        table.u32(8 * reference as usize).store(header, SeqCst);
    }

    pub(super) fn flags(&self, id: DomId, reference: u32) -> EntryFlags {
        let header = self.table(id).u32(8 * reference as usize).load(SeqCst);
        EntryFlags::from_bits_retain(header as u16)
    }

    pub(super) fn map(
        &mut self,
        mapper: DomId,
        granter: DomId,
        reference: u32,
        access: Access,
        gfn: u64,
    ) -> Result<Mapped, Status> {
        let mut flags = MapFlags::HOST_MAP;
        flags.set(MapFlags::READONLY, access == Access::Read);
        let request = MapGrantRef {
            host_addr: gfn << 12,
            flags: flags.bits(),
            reference: GrantRef(reference),
            dom: granter,
            ..MapGrantRef::default()
        };
        self.monitor.grant_map(mapper, &request)
    }

    pub(super) fn unmap(&mut self, mapper: DomId, handle: u32, gfn: u64) -> Result<(), Status> {
        let request = UnmapGrantRef { host_addr: gfn << 12, handle, ..Default::default() };
        self.monitor.grant_unmap(mapper, &request).map(|_| ())
    }

    pub(super) fn destroy(&mut self, id: DomId) {
        while self.monitor.destroy_step(PRIVILEGED, id) == Ok(Progress::More) {}
    }

    /// Ends everything: not one frame may be missing.
    pub(super) fn check_nothing_leaked(&mut self) {
        self.domains.into_iter().for_each(|id| self.destroy(id));
        assert_eq!(self.monitor.frames.free(), self.free);
    }
}

/// A granted end of a copy.
pub(super) fn granted(domid: DomId, reference: u32, offset: u16) -> (CopyEnd, bool) {
    (CopyEnd { frame: reference.into(), domid, offset, padding: 0 }, true)
}

/// An end of a copy in the caller's own RAM.
pub(super) fn own(gfn: u64, offset: u16) -> (CopyEnd, bool) {
    (CopyEnd { frame: gfn, domid: DomId::SELF, offset, padding: 0 }, false)
}

pub(super) fn request(source: (CopyEnd, bool), dest: (CopyEnd, bool), len: u16) -> Copy {
    let mut flags = CopyFlags::empty();
    flags.set(CopyFlags::SOURCE_GREF, source.1);
    flags.set(CopyFlags::DEST_GREF, dest.1);
    Copy { source: source.0, dest: dest.0, len, flags: flags.bits(), ..Copy::default() }
}
