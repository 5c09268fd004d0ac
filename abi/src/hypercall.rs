//! How a hypercall is made, and the numbers (public/arch-arm.h, public/xen.h).
//!
//! `HVC #0xEA1`, number in x16, up to five arguments in x0..x4, result in x0. Only x16 and the
//! argument registers in use may change. Pointers are the caller's virtual addresses; results
//! below zero are negated [`crate::Errno`] numbers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{layout, numbers};

/// The immediate of the HVC instruction that marks a hypercall (`XEN_HYPERCALL_TAG`).
pub const HVC_TAG: u16 = 0xEA1;

numbers! {
    /// Hypercall numbers that exist on arm64 and that Aurochs knows by name.
    pub enum Number: u64 {
        /// Reservations and the guest-physical map.
        MemoryOp = 12,
        /// Several calls in one.
        Multicall = 13,
        /// Version and features.
        XenVersion = 17,
        /// The monitor's console.
        ConsoleIo = 18,
        /// Grants.
        GrantTableOp = 20,
        /// Optional behaviour.
        VmAssist = 21,
        /// Things about one vCPU.
        VcpuOp = 24,
        /// Yield, poll, shut down.
        SchedOp = 29,
        /// Event channels.
        EventChannelOp = 32,
        /// Physical interrupts and devices.
        PhysdevOp = 33,
        /// Domain parameters.
        HvmOp = 34,
        /// The machine, for the toolstack.
        Sysctl = 35,
        /// One domain, for the toolstack.
        Domctl = 36,
    }
}

/// One entry of a multicall's array (`multicall_entry`, xen.h).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Its result, written back.
    pub result: u64,
    /// Its arguments; arm64 uses five of the six.
    pub args: [u64; 6],
}
layout!(MulticallEntry, 64, result @ 8, args @ 16);
