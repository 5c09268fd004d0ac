//! The messages of the pair `sample`: a number goes to dom0, another one comes back.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout;

/// The class of such devices in the store.
pub const CLASS: &str = "sample";

/// What the frontend asks. Its size is a multiple of four bytes, without gaps.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// A number.
    pub number: u64,
}
layout!(Request, 8);

/// What the backend answers.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// The number, times the device's factor.
    pub product: u64,
}
layout!(Response, 8);
