//! `memory_op` (public/memory.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Gfn, layout, numbers};

numbers! {
    /// Commands of `memory_op` (x0); x1 points to the structure named. Bits above 6 of x0 carry
    /// the number of extents done by an interrupted call.
    pub enum Command: u64 {
        /// [`Reservation`]
        IncreaseReservation = 0,
        /// [`Reservation`]
        DecreaseReservation = 1,
        /// No argument: the highest machine frame number.
        MaximumRamPage = 2,
        /// A [`DomId`]: frames that the domain has.
        CurrentReservation = 3,
        /// A [`DomId`]: frames that it may have.
        MaximumReservation = 4,
        /// [`Reservation`]
        PopulatePhysmap = 6,
        /// [`AddToPhysmap`]
        AddToPhysmap = 7,
        /// [`Exchange`]
        Exchange = 11,
        /// A [`DomId`]: the highest mapped guest frame number.
        MaximumGpfn = 14,
        /// [`RemoveFromPhysmap`]
        RemoveFromPhysmap = 15,
        /// [`AddToPhysmapBatch`]
        AddToPhysmapBatch = 23,
        /// Not supported.
        ClaimPages = 24,
    }
}

/// Bits of x0 that hold the command; the rest is the continuation's start.
pub const COMMAND_BITS: u32 = 6;

numbers! {
    /// What [`AddToPhysmap`] maps (`XENMAPSPACE_*`).
    pub enum MapSpace: u32 {
        /// The shared-info page.
        SharedInfo = 0,
        /// Frame `idx` of the grant table.
        GrantTable = 1,
        /// Another frame of the same domain. Not on arm64.
        Gmfn = 2,
        /// Several of them. Not on arm64.
        GmfnRange = 3,
        /// A frame of another domain (batch only; privileged).
        GmfnForeign = 4,
        /// Device memory (privileged).
        DevMmio = 5,
    }
}

/// A list of extents to give to or to take from a domain.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reservation {
    /// In: pointer to an array of u64 frame numbers.
    pub extent_start: u64,
    /// In: its length.
    pub nr_extents: u64,
    /// In: log2 of the frames in each extent.
    pub extent_order: u32,
    /// In: placement hints; ignored.
    pub mem_flags: u32,
    /// In: whose memory.
    pub domid: DomId,
    /// Reserved.
    pub padding: [u16; 3],
}
layout!(Reservation, 32, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);

/// Exchanges frames for contiguous ones. No monitor on arm64 does: `EOPNOTSUPP`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exchange {
    /// In: what is given.
    pub given: Reservation,
    /// In: what is to be had for it, as many frames.
    pub taken: Reservation,
    /// In, out: extents that were given; zero at first.
    pub nr_exchanged: u64,
}
layout!(Exchange, 72, taken @ 32, nr_exchanged @ 64);

/// Maps one page into a guest-physical space.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// In: whose space.
    pub domid: DomId,
    /// In: for ranges.
    pub size: u16,
    /// In: [`MapSpace`]
    pub space: u32,
    /// In: index in that space.
    pub idx: u64,
    /// In: where.
    pub gpfn: Gfn,
}
layout!(AddToPhysmap, 24, size @ 2, space @ 4, idx @ 8, gpfn @ 16);

/// Maps many pages, each with an error of its own.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// In: whose space.
    pub domid: DomId,
    /// In: [`MapSpace`]
    pub space: u16,
    /// In: elements in each array.
    pub size: u16,
    /// In: for [`MapSpace::GmfnForeign`]: whose frames.
    pub foreign_domid: DomId,
    /// In: pointer to u64 indices in that space.
    pub idxs: u64,
    /// In: pointer to u64 frame numbers to map at.
    pub gpfns: u64,
    /// Out: pointer to i32 negated error numbers.
    pub errs: u64,
}
layout!(AddToPhysmapBatch, 32, space @ 2, size @ 4, foreign_domid @ 6, idxs @ 8, gpfns @ 16, errs @ 24);

/// Removes one page.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// In: whose space.
    pub domid: DomId,
    /// Reserved.
    pub padding: [u16; 3],
    /// In.
    pub gpfn: Gfn,
}
layout!(RemoveFromPhysmap, 16, gpfn @ 8);
