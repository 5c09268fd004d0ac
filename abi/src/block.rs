//! The block protocol (public/io/blkif.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{GrantRef, layout, numbers};

/// Bytes in a sector, whatever the device uses.
pub const SECTOR_SIZE: usize = 512;
/// Segments, of at most a page each, in one request.
pub const MAX_SEGMENTS: usize = 11;
/// Value of the store's `protocol` key on arm.
pub const PROTOCOL: &str = "arm-abi";

numbers! {
    /// What to do.
    pub enum Operation: u8 {
        /// Device to memory.
        Read = 0,
        /// Memory to device.
        Write = 1,
        /// Make what was written durable.
        Flush = 3,
        /// Forget sectors.
        Discard = 5,
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
