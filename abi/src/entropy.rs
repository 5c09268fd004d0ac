//! The entropy protocol: random bytes for a domain. Aurochs' own; Xen has none.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{GrantRef, PAGE_SIZE, layout};

/// The class of such devices in the store.
pub const CLASS: &str = "entropy";
/// Bytes that one request can ask for.
pub const LENGTH_MAX: usize = PAGE_SIZE;

/// A request of the frontend.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// The page for the bytes, which the backend may write.
    pub reference: GrantRef,
    /// How many; beyond [`LENGTH_MAX`] means that many.
    pub length: u32,
}
layout!(Request, 8, length @ 4);

/// The backend's answer.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// How many random bytes are in the page, from its start: all, or none if there are none to be
    /// had or the page could not be written.
    pub length: u32,
}
layout!(Response, 4);
