//! The page that the monitor shares with a domain, and the record it keeps for each vCPU in it
//! (public/xen.h, public/arch-arm.h, public/vcpu.h).
//!
//! These are memory that two sides write at once: the structures here give offsets, and both
//! sides access the words atomically.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Port, layout};

/// Bytes in a [`VcpuInfo`].
pub const VCPU_INFO_SIZE: usize = 48;
/// Ports of the 2-level event ABI: 64 words of 64 bits.
pub const TWO_LEVEL_PORTS: u32 = 4096;

/// `vcpu_info`: where a vCPU learns that events are pending. Arm has no per-vCPU mask byte.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct VcpuInfo {
    /// Non-zero: at least one bit of `pending_selector` is set.
    pub upcall_pending: u8,
    padding: [u8; 7],
    /// Bit n: word n of `SharedInfo::pending` has a bit set for this vCPU.
    pub pending_selector: u64,
    /// x86's clock record; unused on arm64.
    time: [u8; 32],
}
layout!(VcpuInfo, VCPU_INFO_SIZE, upcall_pending @ 0, pending_selector @ 8, time @ 16);

/// `shared_info`.
#[derive(Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// Record of vCPU 0 until it registers one of its own.
    pub vcpu_info: [VcpuInfo; 1],
    /// Bit (port): an event is pending.
    pub pending: [u64; 64],
    /// Bit (port): do not deliver.
    pub mask: [u64; 64],
    /// Odd while the wall clock below is being written.
    pub wallclock_version: u32,
    /// Wall-clock time at boot: seconds since 1970, low word.
    pub wallclock_seconds: u32,
    /// Nanoseconds within that second.
    pub wallclock_nanoseconds: u32,
    /// Seconds, high word.
    pub wallclock_seconds_high: u32,
}
layout!(
    SharedInfo, 1088,
    pending @ 48, mask @ 560, wallclock_version @ 1072, wallclock_seconds @ 1076,
    wallclock_nanoseconds @ 1080, wallclock_seconds_high @ 1084,
);

/// Where a port's bit stands in the `pending` and `mask` arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBit {
    /// Index of the 64-bit word; also the bit in `pending_selector`. Below 64.
    pub word: usize,
    /// The bit, as a mask with one bit set.
    pub mask: u64,
}

impl PortBit {
    /// The place of `port`, or `None` if the 2-level ABI cannot name it.
    pub const fn of(port: Port) -> Option<PortBit> {
        if port.0 >= TWO_LEVEL_PORTS {
            return None;
        }
        Some(PortBit { word: (port.0 / 64) as usize, mask: 1 << (port.0 % 64) })
    }
}

/// `vcpu_runstate_info`: what a vCPU has done with its time.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RunstateInfo {
    /// A [`Runstate`] number.
    pub state: u32,
    /// Reserved.
    pub padding: u32,
    /// When it entered that state, in nanoseconds of system time; bit 63 is set during an update
    /// if the guest asked for it by `vm_assist`.
    pub entry_time: u64,
    /// Nanoseconds spent in each state.
    pub time: [u64; 4],
}
layout!(RunstateInfo, 48, entry_time @ 8, time @ 16);

impl RunstateInfo {
    /// Set in `entry_time` while the monitor writes the record (`XEN_RUNSTATE_UPDATE`), if the
    /// guest asked for it.
    pub const UPDATE: u64 = 1 << 63;
}

crate::numbers! {
    /// What a vCPU is doing.
    pub enum Runstate: u32 {
        /// On a CPU.
        Running = 0,
        /// Wants a CPU.
        Runnable = 1,
        /// Waits for an event.
        Blocked = 2,
        /// Cannot run.
        Offline = 3,
    }
}
