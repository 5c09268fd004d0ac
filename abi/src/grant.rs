//! Grant tables, version 1 (public/grant_table.h). Version 2 does not exist on arm64.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, GrantRef, PAGE_SIZE, layout, numbers};

/// One entry of the shared table. The granter writes `frame` and `domid`, then `flags`; the
/// monitor sets READING and WRITING by compare-and-exchange of the first 32 bits.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// [`EntryFlags`]
    pub flags: u16,
    /// Who may use the frame.
    pub domid: DomId,
    /// The granter's frame number.
    pub frame: u32,
}
layout!(Entry, 8, domid @ 2, frame @ 4);

/// Entries in one frame of the table.
pub const ENTRIES_PER_FRAME: u32 = (PAGE_SIZE / size_of::<Entry>()) as u32;
/// Entries that the toolstack keeps for itself at the start of each table.
pub const RESERVED_ENTRIES: u32 = 8;
/// Entry for the console ring.
pub const RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// Entry for the store ring.
pub const RESERVED_XENSTORE: GrantRef = GrantRef(1);

bitflags! {
    /// First half-word of an [`Entry`] (`GTF_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct EntryFlags: u16 {
        /// The frame may be mapped and copied.
        const PERMIT_ACCESS = 1;
        /// Two bits of type.
        const TYPE_MASK = 3;
        /// Only for reading.
        const READONLY = 1 << 2;
        /// Set by the monitor: in use for reading.
        const READING = 1 << 3;
        /// Set by the monitor: in use for writing.
        const WRITING = 1 << 4;
    }
}

numbers! {
    /// Commands of `grant_table_op`; x1 points to x2 structures of the kind named.
    pub enum Command: u64 {
        /// [`MapGrantRef`]
        MapGrantRef = 0,
        /// [`UnmapGrantRef`]
        UnmapGrantRef = 1,
        /// [`SetupTable`]
        SetupTable = 2,
        /// [`Copy`]
        Copy = 5,
        /// [`QuerySize`]
        QuerySize = 6,
        /// Not on arm64.
        UnmapAndReplace = 7,
        /// [`SetVersion`]
        SetVersion = 8,
        /// Version 2 only.
        GetStatusFrames = 9,
        /// [`GetVersion`]
        GetVersion = 10,
        /// [`SwapGrantRef`]
        SwapGrantRef = 11,
        /// [`CacheFlush`]
        CacheFlush = 12,
    }
}

numbers! {
    /// Result of one element of a grant operation (`GNTST_*`).
    pub enum Status: i16 {
        /// Done.
        Okay = 0,
        /// Anything else.
        GeneralError = -1,
        /// No such domain, or not one that may be named here.
        BadDomain = -2,
        /// No such reference, or it grants nothing.
        BadGrantRef = -3,
        /// No such handle.
        BadHandle = -4,
        /// An address that cannot be mapped.
        BadVirtAddr = -5,
        /// An address that a device cannot reach.
        BadDevAddr = -6,
        /// No room in the device's tables.
        NoDeviceSpace = -7,
        /// Not granted to the caller, or not for writing.
        PermissionDenied = -8,
        /// The granted frame is not ordinary memory.
        BadPage = -9,
        /// A copy that leaves its frame.
        BadCopyArg = -10,
        /// An address out of range.
        AddressTooBig = -11,
        /// Try again.
        Again = -12,
        /// No room for another mapping.
        NoSpace = -13,
    }
}

bitflags! {
    /// How to map (`GNTMAP_*`); arm64 knows these two.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// Map into the caller's guest-physical space.
        const HOST_MAP = 1 << 1;
        /// For reading only.
        const READONLY = 1 << 2;
    }
}

/// Maps another domain's frame.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapGrantRef {
    /// In: the guest-physical address at which to map.
    pub host_addr: u64,
    /// In: [`MapFlags`]
    pub flags: u32,
    /// In.
    pub reference: GrantRef,
    /// In: the granter.
    pub dom: DomId,
    /// Out: [`Status`]
    pub status: i16,
    /// Out: to unmap by.
    pub handle: u32,
    /// Out: the machine address that a device may be given. Meaningful to a directly mapped
    /// domain only.
    pub dev_bus_addr: u64,
}
layout!(
    MapGrantRef, 32,
    flags @ 8, reference @ 12, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24
);

/// Unmaps it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// In: where it was mapped.
    pub host_addr: u64,
    /// In: zero, or the address that mapping returned.
    pub dev_bus_addr: u64,
    /// In.
    pub handle: u32,
    /// Out: [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding: u16,
}
layout!(UnmapGrantRef, 24, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// Sets the number of frames of a domain's table.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupTable {
    /// In.
    pub dom: DomId,
    /// Reserved.
    pub padding: u16,
    /// In.
    pub nr_frames: u32,
    /// Out: [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding2: [u16; 3],
    /// In: where to write the list of frame numbers.
    pub frame_list: u64,
}
layout!(SetupTable, 24, nr_frames @ 4, status @ 8, frame_list @ 16);

/// One end of a [`Copy`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyEnd {
    /// A [`GrantRef`] (low 32 bits) or a [`crate::Gfn`], as the flags say.
    pub frame: u64,
    /// Whose.
    pub domid: DomId,
    /// Offset in the frame.
    pub offset: u16,
    /// Reserved.
    pub padding: u32,
}
layout!(CopyEnd, 16, domid @ 8, offset @ 10);

bitflags! {
    /// Which ends of a [`Copy`] are grants (`GNTCOPY_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CopyFlags: u16 {
        /// The source is a grant reference.
        const SOURCE_GREF = 1;
        /// The destination is a grant reference.
        const DEST_GREF = 2;
    }
}

/// Copies within one frame on each side.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Copy {
    /// In.
    pub source: CopyEnd,
    /// In.
    pub dest: CopyEnd,
    /// In: bytes.
    pub len: u16,
    /// In: [`CopyFlags`]
    pub flags: u16,
    /// Out: [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding: u16,
}
layout!(Copy, 40, dest @ 16, len @ 32, flags @ 34, status @ 36);

/// Asks for the size of a domain's table.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuerySize {
    /// In.
    pub dom: DomId,
    /// Reserved.
    pub padding: u16,
    /// Out.
    pub nr_frames: u32,
    /// Out.
    pub max_nr_frames: u32,
    /// Out: [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding2: u16,
}
layout!(QuerySize, 16, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// Chooses the version of the caller's table.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVersion {
    /// In: what is wanted; out: what is used.
    pub version: u32,
}
layout!(SetVersion, 4);

/// Asks for the version of a domain's table.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVersion {
    /// In.
    pub dom: DomId,
    /// Reserved.
    pub padding: u16,
    /// Out.
    pub version: u32,
}
layout!(GetVersion, 8, version @ 4);

/// The only version on arm64.
pub const VERSION: u32 = 1;

/// Exchanges two entries.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SwapGrantRef {
    /// In.
    pub first: GrantRef,
    /// In.
    pub second: GrantRef,
    /// Out: [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding: u16,
}
layout!(SwapGrantRef, 12, second @ 4, status @ 8);

bitflags! {
    /// What [`CacheFlush`] does (`GNTTAB_CACHE_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CacheFlags: u32 {
        /// Writes back what was written.
        const CLEAN = 1 << 0;
        /// Forgets what was cached.
        const INVALIDATE = 1 << 1;
        /// The address is a [`GrantRef`]; Xen does not support it either.
        const SOURCE_GREF = 1 << 31;
    }
}

/// Maintains the data caches for a range of one frame, for a device that does not see them.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CacheFlush {
    /// In: the machine address of the frame.
    pub dev_bus_addr: u64,
    /// In: offset in the frame.
    pub offset: u16,
    /// In: bytes.
    pub length: u16,
    /// In: [`CacheFlags`]
    pub op: u32,
}
layout!(CacheFlush, 16, offset @ 8, length @ 10, op @ 12);
