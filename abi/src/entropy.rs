//! The entropy protocol: random bytes for a domain. Aurochs' own; Xen has none.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// The class of such devices in the store.
pub const CLASS: &str = "entropy";
/// Bytes that one request can ask for.
pub const BYTES_MAX: usize = 64;

/// A request of the frontend.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// How many bytes; beyond [`BYTES_MAX`] means that many.
    pub length: u32,
}
layout!(Request, 4);

/// The backend's answer.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// As many random bytes as were asked for, then zeroes.
    pub bytes: [u8; BYTES_MAX],
}
layout!(Response, 64);
