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
        /// Copies out a [`CompileInfo`].
        CompileInfo = 2,
        /// Copies out a [`Capabilities`].
        Capabilities = 3,
        /// Copies out a [`Changeset`].
        Changeset = 4,
        /// Copies out a [`PlatformParameters`].
        PlatformParameters = 5,
        /// Copies a [`FeatureInfo`] in and out.
        GetFeatures = 6,
        /// Returns the page size. The argument must be null.
        PageSize = 7,
        /// Copies out a [`DomainHandle`].
        GuestHandle = 8,
        /// Copies out a [`CommandLine`] (privileged; others get [`DENIED`]).
        CommandLine = 9,
        /// Copies a [`BuildId`] in, its bytes out, and returns how many (privileged).
        BuildId = 10,
    }
}

/// The Xen interface version that Aurochs speaks: 4.17, as `(major << 16) | minor`.
pub const INTERFACE_VERSION: u64 = 0x0004_0011;

/// A NUL-padded suffix to the version number.
pub type ExtraVersion = [u8; 16];
/// A NUL-padded list of the guest types that can run.
pub type Capabilities = [u8; 1024];

/// A NUL-padded name of the source's state.
pub type Changeset = [u8; 64];
/// A domain's UUID, most significant byte first.
pub type DomainHandle = [u8; 16];
/// The monitor's own NUL-padded command line.
pub type CommandLine = [u8; 1024];

/// What [`Command::CommandLine`] copies out, with its NUL, to a domain that may not know.
pub const DENIED: [u8; 9] = *b"<denied>\0";

/// How the monitor was built; all NUL-padded.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompileInfo {
    /// By which compiler.
    pub compiler: [u8; 64],
    /// By whom.
    pub compile_by: [u8; 16],
    /// In which network domain.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}
layout!(CompileInfo, 144, compile_by @ 64, compile_domain @ 80, compile_date @ 112);

/// Answer to [`Command::PlatformParameters`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlatformParameters {
    /// Where the monitor begins in a guest's address space; zero: it is not in there.
    pub virt_start: u64,
}
layout!(PlatformParameters, 8);

/// Argument of [`Command::BuildId`]; the identifier's bytes follow it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BuildId {
    /// In: bytes that there is room for.
    pub len: u32,
}
layout!(BuildId, 4);

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
