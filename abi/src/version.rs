//! `xen_version` (public/version.h, public/features.h).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{layout, numbers};

numbers! {
    /// Commands of `xen_version`.
    pub enum Command: u64 {
        /// Returns `(major << 16) | minor`.
        Version = 0,
        /// Copies out a [`ExtraVersion`].
        ExtraVersion = 1,
        /// Copies out a [`Capabilities`].
        Capabilities = 3,
        /// Copies a [`FeatureInfo`] in and out.
        GetFeatures = 6,
        /// Returns the page size.
        PageSize = 7,
    }
}

/// The Xen interface version that Aurochs speaks: 4.17, as `(major << 16) | minor`.
pub const INTERFACE_VERSION: u64 = 0x0004_0011;

/// A NUL-padded suffix to the version number.
pub type ExtraVersion = [u8; 16];
/// A NUL-padded list of the guest types that can run.
pub type Capabilities = [u8; 1024];

/// Argument of [`Command::GetFeatures`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which word of features. Only word 0 exists.
    pub submap_index: u32,
    /// Out: [`Features`].
    pub submap: u32,
}
layout!(FeatureInfo, 8);

bitflags! {
    /// Features word 0 (`XENFEAT_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u32 {
        /// The guest writes its own page tables.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Guest frame numbers are guest-physical: the monitor translates.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The caller is the privileged domain.
        const DOM0 = 1 << 11;
        /// Reservations may name a memory node.
        const MEMORY_OP_VNODE = 1 << 13;
        /// SMCCC is available by `HVC #0`.
        const ARM_SMCCC = 1 << 14;
        /// Guest-physical addresses are not machine addresses.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Guest-physical addresses are machine addresses.
        const DIRECT_MAPPED = 1 << 17;
    }
}

impl Features {
    /// What an unprivileged domain is told.
    pub const DOMU: Features = Features::WRITABLE_PAGE_TABLES
        .union(Features::AUTO_TRANSLATED_PHYSMAP)
        .union(Features::MEMORY_OP_VNODE)
        .union(Features::ARM_SMCCC)
        .union(Features::NOT_DIRECT_MAPPED);
    /// What the privileged, directly mapped domain is told.
    pub const DOM0_DIRECT: Features = Features::WRITABLE_PAGE_TABLES
        .union(Features::AUTO_TRANSLATED_PHYSMAP)
        .union(Features::DOM0)
        .union(Features::MEMORY_OP_VNODE)
        .union(Features::ARM_SMCCC)
        .union(Features::DIRECT_MAPPED);
}
