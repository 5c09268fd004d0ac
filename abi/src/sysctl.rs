//! `sysctl`: what the toolstack asks of the machine. Numbers are Xen's (public/sysctl.h), payloads
//! Aurochs' own; see [`crate::domctl`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, layout, numbers};

/// Value of [`Sysctl::interface_version`].
pub const INTERFACE_VERSION: u32 = 0x4155_0001;

numbers! {
    /// Commands; the payload of each is named.
    pub enum Command: u32 {
        /// [`ReadConsole`]
        ReadConsole = 1,
        /// [`PhysInfo`], out.
        PhysInfo = 3,
        /// [`DomainInfoList`]
        GetDomainInfoList = 6,
        /// [`DebugKeys`]
        DebugKeys = 7,
    }
}

/// The argument: a header and 128 bytes of payload.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sysctl {
    /// [`Command`]
    pub command: u32,
    /// [`INTERFACE_VERSION`]
    pub interface_version: u32,
    /// One of the structures below, from its start.
    pub payload: [u8; 128],
}
layout!(Sysctl, 136, interface_version @ 4, payload @ 8);

/// Payload of [`Command::ReadConsole`]: the monitor's log.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadConsole {
    /// In: where to write.
    pub buffer: u64,
    /// In: its bytes. Out: bytes written.
    pub count: u32,
    /// Reserved.
    pub padding: u32,
    /// In: position in the log from which to read, 0 for the oldest that is kept. Out: the
    /// position after what was read.
    pub position: u64,
}
layout!(ReadConsole, 24, count @ 8, position @ 16);

/// Payload of [`Command::PhysInfo`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysInfo {
    /// Physical CPUs online.
    pub cpus: u32,
    /// Ticks of the system counter per second.
    pub counter_hertz: u32,
    /// 4 KiB frames of RAM that the monitor manages.
    pub total_frames: u64,
    /// Those that nobody has.
    pub free_frames: u64,
    /// Domains that exist, dying ones included.
    pub domains: u32,
    /// Reserved.
    pub padding: u32,
    /// Interrupts by which one physical CPU has asked another to look, since the machine started.
    pub ipis: u64,
}
layout!(PhysInfo, 40, total_frames @ 8, free_frames @ 16, domains @ 24, ipis @ 32);

/// Payload of [`Command::DebugKeys`]: has the monitor write to its log how things stand.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DebugKeys {
    /// Where the keys are, a byte each, as if they had been pressed one after the other.
    pub keys: u64,
    /// How many.
    pub count: u32,
    /// Reserved.
    pub padding: u32,
}
layout!(DebugKeys, 16, count @ 8);

/// Payload of [`Command::GetDomainInfoList`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfoList {
    /// In: the first domain of interest.
    pub first: DomId,
    /// Reserved.
    pub padding: u16,
    /// In: elements that fit.
    pub max_domains: u32,
    /// In: where to write [`crate::domctl::DomainInfo`] elements.
    pub buffer: u64,
    /// Out: elements written.
    pub count: u32,
    /// Reserved.
    pub padding2: u32,
}
layout!(DomainInfoList, 24, max_domains @ 4, buffer @ 8, count @ 16);
