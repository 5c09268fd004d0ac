//! Names for things on both sides of the border, as types.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::PAGE_SHIFT;

/// A domain identifier (`domid_t`, xen.h). Ordinary domains lie below [`DomId::FIRST_RESERVED`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct DomId(pub u16);

impl DomId {
    /// The privileged domain.
    pub const DOM0: DomId = DomId(0);
    /// First identifier with a meaning of its own.
    pub const FIRST_RESERVED: u16 = 0x7FF0;
    /// "The caller" in every hypercall that takes a domain.
    pub const SELF: DomId = DomId(0x7FF0);
    /// No domain at all.
    pub const INVALID: DomId = DomId(0x7FF4);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// An event-channel port, local to one domain (`evtchn_port_t`). Port 0 is never valid.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A grant reference: the index of an entry in the granting domain's table (`grant_ref_t`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A virtual CPU's number within its domain.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

/// A guest frame number: a guest-physical (intermediate physical) address in units of 4 KiB.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Gfn(pub u64);

impl Gfn {
    /// The frame that holds this guest-physical address.
    pub const fn containing(address: u64) -> Gfn {
        Gfn(address >> PAGE_SHIFT)
    }

    /// The guest-physical address of the frame's first byte, or `None` if it would not fit.
    pub const fn address(self) -> Option<u64> {
        if self.0 >> (64 - PAGE_SHIFT) == 0 { Some(self.0 << PAGE_SHIFT) } else { None }
    }

    /// The frame `count` frames after this one, or `None` on overflow.
    pub const fn checked_add(self, count: u64) -> Option<Gfn> {
        match self.0.checked_add(count) {
            Some(gfn) => Some(Gfn(gfn)),
            None => None,
        }
    }
}
