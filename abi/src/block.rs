//! The block protocol (public/io/blkif.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::{GrantRef, PAGE_SIZE, layout, numbers};

/// Bytes in a sector, whatever the device uses.
pub const SECTOR_SIZE: usize = 512;
/// Sectors in a page.
pub const SECTORS_PER_PAGE: u8 = (PAGE_SIZE / SECTOR_SIZE) as u8;
/// Segments, of at most a page each, in one request that has them in its slot.
pub const MAX_SEGMENTS: usize = 11;
/// Pages of segments in one indirect request.
pub const MAX_INDIRECT_PAGES: usize = 8;
/// Segments in such a page.
pub const SEGMENTS_PER_PAGE: usize = PAGE_SIZE / size_of::<Segment>();
/// Value of the store's `protocol` key on arm.
pub const PROTOCOL: &str = "arm-abi";

/// Keys in the two directories of a disk. Those of several pages and queues are numbered:
/// `ring-ref0`, `queue-0/ring-ref`.
pub mod key {
    /// Back: it makes durable what was written, on request.
    pub const FLUSH: &str = "feature-flush-cache";
    /// Back: it forgets sectors.
    pub const DISCARD: &str = "feature-discard";
    /// Back: in units of so many bytes.
    pub const DISCARD_GRANULARITY: &str = "discard-granularity";
    /// Back: which begin so many bytes after the disk's begin.
    pub const DISCARD_ALIGNMENT: &str = "discard-alignment";
    /// Both: grants are kept mapped, and used again. A frontend's word counts only if the backend has
    /// said so first: Linux says it always, and keeps to it then.
    pub const PERSISTENT: &str = "feature-persistent";
    /// Front: its grants last as long as the connection, whatever the backend has said. Xen does not
    /// know it: it is for frontends that need not copy to keep their grants.
    pub const LASTING_GRANTS: &str = "feature-lasting-grants";
    /// Back: segments in an indirect request.
    pub const MAX_INDIRECT: &str = "feature-max-indirect-segments";
    /// Back: pages of the largest ring, log2.
    pub const MAX_RING_ORDER: &str = "max-ring-page-order";
    /// Front: pages of its ring, log2. If there is just one page this is left out.
    pub const RING_ORDER: &str = "ring-page-order";
    /// Front: the ring's page; of several, with a number.
    pub const RING_REF: &str = "ring-ref";
    /// Front: its port.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// Back: how many queues there may be.
    pub const MAX_QUEUES: &str = "multi-queue-max-queues";
    /// Front: how many there are. If there is just one this is left out.
    pub const QUEUES: &str = "multi-queue-num-queues";
    /// Front: [`PROTOCOL`](super::PROTOCOL)
    pub const PROTOCOL: &str = "protocol";
    /// Back: the disk's size in sectors of 512 bytes.
    pub const SECTORS: &str = "sectors";
    /// Back: bytes of a sector.
    pub const SECTOR_SIZE: &str = "sector-size";
    /// Back: bytes that the device handles at once.
    pub const PHYSICAL_SECTOR_SIZE: &str = "physical-sector-size";
    /// Back: [`InfoFlags`](super::InfoFlags)
    pub const INFO: &str = "info";
}

bitflags::bitflags! {
    /// Value of the key `info` (`VDISK_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InfoFlags: u32 {
        /// A CD or the like.
        const CDROM = 1;
        /// Its medium may be changed.
        const REMOVABLE = 2;
        /// It must not be written.
        const READ_ONLY = 4;
    }
}

numbers! {
    /// What to do.
    pub enum Operation: u8 {
        /// Device to memory.
        Read = 0,
        /// Memory to device.
        Write = 1,
        /// Make what was written durable.
        Flush = 3,
        /// Forget sectors: a [`DiscardRequest`].
        Discard = 5,
        /// One of the first two, with more segments: an [`IndirectRequest`].
        Indirect = 6,
    }
}

numbers! {
    /// How it went.
    pub enum Status: i16 {
        /// Well.
        Okay = 0,
        /// Badly.
        Error = -1,
        /// This backend does not do that.
        NotSupported = -2,
    }
}

/// Part of a request: sectors within one granted page.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// The page.
    pub reference: GrantRef,
    /// First sector in it, 0 to 7.
    pub first_sector: u8,
    /// Last sector in it, not less than the first.
    pub last_sector: u8,
    /// Reserved.
    pub padding: u16,
}
layout!(Segment, 8, first_sector @ 4, last_sector @ 5);

/// A request of the frontend.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// [`Operation`]
    pub operation: u8,
    /// Segments in use.
    pub segments: u8,
    /// The frontend's number for the device.
    pub handle: u16,
    /// Reserved.
    pub padding: u32,
    /// Given back in the response.
    pub id: u64,
    /// First sector on the device, in units of 512 bytes.
    pub sector: u64,
    /// The pages.
    pub segment: [Segment; MAX_SEGMENTS],
}
layout!(Request, 112, segments @ 1, handle @ 2, id @ 8, sector @ 16, segment @ 24);

/// A request whose segments lie in pages of their own.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IndirectRequest {
    /// [`Operation::Indirect`]
    pub operation: u8,
    /// [`Operation::Read`] or [`Operation::Write`]
    pub indirect_operation: u8,
    /// Segments in use.
    pub segments: u16,
    /// Reserved.
    pub padding: u32,
    /// Given back in the response.
    pub id: u64,
    /// First sector on the device, in units of 512 bytes.
    pub sector: u64,
    /// The frontend's number for the device.
    pub handle: u16,
    /// Reserved.
    pub padding2: u16,
    /// Pages of [`Segment`]s, all but the last full.
    pub pages: [GrantRef; MAX_INDIRECT_PAGES],
    /// Reserved.
    pub padding3: [u32; 13],
}
layout!(IndirectRequest, 112, indirect_operation @ 1, segments @ 2, id @ 8, sector @ 16, pages @ 28);

/// A request to forget sectors.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DiscardRequest {
    /// [`Operation::Discard`]
    pub operation: u8,
    /// Bit 0: so that nobody can read them any more. No backend here offers that.
    pub flags: u8,
    /// The frontend's number for the device.
    pub handle: u16,
    /// Reserved.
    pub padding: u32,
    /// Given back in the response.
    pub id: u64,
    /// First sector on the device, in units of 512 bytes.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    /// Reserved.
    pub padding2: [u64; 10],
}
layout!(DiscardRequest, 112, id @ 8, sector @ 16, sectors @ 24);

impl Request {
    /// The same bytes as what [`Operation::Indirect`] says that they are.
    pub fn as_indirect(self) -> IndirectRequest {
        transmute!(self)
    }

    /// The same bytes as what [`Operation::Discard`] says that they are.
    pub fn as_discard(self) -> DiscardRequest {
        transmute!(self)
    }
}

impl From<IndirectRequest> for Request {
    fn from(request: IndirectRequest) -> Request {
        transmute!(request)
    }
}

impl From<DiscardRequest> for Request {
    fn from(request: DiscardRequest) -> Request {
        transmute!(request)
    }
}

/// The backend's answer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Reserved.
    pub padding: u8,
    /// [`Status`]
    pub status: i16,
    /// Reserved.
    pub padding2: u32,
}
layout!(Response, 16, operation @ 8, status @ 10);
