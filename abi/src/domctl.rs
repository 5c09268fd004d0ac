//! `domctl`: what the toolstack does to one domain.
//!
//! The hypercall number, the frame of the argument and the command numbers are Xen's
//! (public/domctl.h). The payloads are Aurochs' own: Xen does not keep its own stable, and checks
//! an interface version instead, as is done here.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, VcpuId, layout, numbers};

/// Value of [`Domctl::interface_version`].
pub const INTERFACE_VERSION: u32 = 0x4155_0002;

numbers! {
    /// Commands; the payload of each is named.
    pub enum Command: u32 {
        /// [`CreateDomain`]. The new domain's identifier comes back in `Domctl::domain`; it is
        /// paused, has its vCPUs but no memory.
        CreateDomain = 1,
        /// No payload. Returns when all its frames that nobody else holds are free.
        DestroyDomain = 2,
        /// No payload.
        PauseDomain = 3,
        /// No payload.
        UnpauseDomain = 4,
        /// [`DomainInfo`], out.
        GetDomainInfo = 5,
        /// [`VcpuAffinity`]: sets where a vCPU may run.
        SetVcpuAffinity = 9,
        /// [`MaxMemory`].
        MaxMemory = 11,
        /// [`VcpuContext`]: sets the state in which the vCPU starts and brings it online.
        SetVcpuContext = 12,
        /// [`VcpuState`]; its vCPU is in, the rest out.
        GetVcpuInfo = 14,
        /// [`SchedulerOp`]
        SchedulerOp = 16,
        /// [`VcpuAffinity`]; its vCPU is in, the rest out.
        GetVcpuAffinity = 25,
        /// No payload: characters were moved in the console's ring, at which the UART is.
        UartOp = 81,
    }
}

/// The argument: a header and 128 bytes of payload.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Domctl {
    /// [`Command`]
    pub command: u32,
    /// [`INTERFACE_VERSION`]
    pub interface_version: u32,
    /// Which domain.
    pub domain: DomId,
    /// Reserved.
    pub padding: [u16; 3],
    /// One of the structures below, from its start.
    pub payload: [u8; 128],
}
layout!(Domctl, 144, interface_version @ 4, domain @ 8, payload @ 16);

/// Payload of [`Command::CreateDomain`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateDomain {
    /// 4 KiB frames that it may have, rings included.
    pub max_frames: u64,
    /// vCPUs, 1 to 8.
    pub max_vcpus: u32,
    /// Frames to which its grant table may grow; 0: the monitor's default.
    pub max_grant_frames: u32,
    /// Where it finds its distributor (guest-physical).
    pub gicd_base: u64,
    /// Where it finds its redistributors.
    pub gicr_base: u64,
    /// The highest port of an event channel that it may have.
    pub max_event_port: u32,
    /// Reserved.
    pub padding: u32,
}
layout!(
    CreateDomain, 40,
    max_vcpus @ 8, max_grant_frames @ 12, gicd_base @ 16, gicr_base @ 24, max_event_port @ 32,
);

/// Payload of [`Command::MaxMemory`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMemory {
    /// 4 KiB frames that it may have.
    pub max_frames: u64,
}

/// Payload of [`Command::SetVcpuContext`]: the entry state of the arm64 boot protocol. EL1h,
/// interrupts masked, MMU off, x1 to x30 zero.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContext {
    /// Which.
    pub vcpu: VcpuId,
    /// Reserved.
    pub padding: u32,
    /// Program counter (guest-physical, since the MMU is off).
    pub pc: u64,
    /// x0: the device tree's guest-physical address, for vCPU 0.
    pub x0: u64,
}
layout!(VcpuContext, 24, pc @ 8, x0 @ 16);

/// Payload of [`Command::SetVcpuAffinity`] and [`Command::GetVcpuAffinity`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuAffinity {
    /// Which.
    pub vcpu: VcpuId,
    /// Reserved.
    pub padding: u32,
    /// The physical CPUs that it may use: bit n for CPU n. CPUs that are not there are left out; at
    /// least one must be left. All ones: any CPU.
    pub cpus: u64,
}
layout!(VcpuAffinity, 16, cpus @ 8);

/// Payload of [`Command::GetVcpuInfo`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuState {
    /// Which.
    pub vcpu: VcpuId,
    /// The physical CPU on which it is or was last.
    pub cpu: u32,
    /// Nanoseconds that it ran.
    pub cpu_time: u64,
    /// 1 if it is online.
    pub online: u8,
    /// 1 if it waits for something to happen.
    pub blocked: u8,
    /// 1 if it is on its CPU.
    pub running: u8,
    /// Reserved.
    pub padding: [u8; 5],
}
layout!(VcpuState, 24, cpu @ 4, cpu_time @ 8, online @ 16, blocked @ 17, running @ 18);

numbers! {
    /// What a [`SchedulerOp`] does (`XEN_DOMCTL_SCHEDOP_*`).
    pub enum SchedulerCommand: u32 {
        /// Sets the parameters. `EINVAL` if the weight is zero.
        PutInfo = 0,
        /// Reads them.
        GetInfo = 1,
    }
}

/// Payload of [`Command::SchedulerOp`]: a domain's share of the CPUs, with the meaning and the
/// units of Xen's credit2.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// [`SchedulerCommand`]
    pub command: u32,
    /// Its share of contended CPUs, relative to other domains'. 256 if nothing was said.
    pub weight: u16,
    /// The most that it may use, in percent of one physical CPU; 0: no limit.
    pub cap: u16,
}
layout!(SchedulerOp, 8, weight @ 4, cap @ 6);

bitflags! {
    /// State of a domain (`XEN_DOMINF_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DomainState: u32 {
        /// Being destroyed.
        const DYING = 1 << 0;
        /// It shut itself down; the reason is in bits 16 to 23.
        const SHUTDOWN = 1 << 2;
        /// The toolstack paused it.
        const PAUSED = 1 << 3;
        /// All its vCPUs wait.
        const BLOCKED = 1 << 4;
        /// At least one of its vCPUs is on a CPU.
        const RUNNING = 1 << 5;
        /// Its shutdown reason.
        const REASON_MASK = 0xFF << 16;
    }
}

impl DomainState {
    /// The number of the [`crate::sched::ShutdownReason`], if it shut down.
    pub const fn shutdown_reason(self) -> Option<u32> {
        if self.contains(DomainState::SHUTDOWN) { Some((self.bits() >> 16) & 0xFF) } else { None }
    }
}

/// What left a domain's own code, by cause, since it was made.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ExitCounts {
    /// Hypercalls.
    pub hypercalls: u64,
    /// Emulated memory-mapped register accesses.
    pub mmio: u64,
    /// Trapped system-register accesses.
    pub system_registers: u64,
    /// PSCI and SMCCC calls.
    pub firmware_calls: u64,
    /// WFI and WFE.
    pub waits: u64,
    /// Physical interrupts taken while it ran.
    pub interrupts: u64,
    /// Events delivered to it.
    pub events: u64,
    /// First uses of floating point since it came to its CPU.
    pub floating_point: u64,
}
layout!(ExitCounts, 64);

/// Payload of [`Command::GetDomainInfo`] and element of the sysctl list.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfo {
    /// Which.
    pub domain: DomId,
    /// Reserved.
    pub padding: u16,
    /// [`DomainState`]
    pub state: u32,
    /// Frames that it has.
    pub frames: u64,
    /// Frames that it may have.
    pub max_frames: u64,
    /// Nanoseconds that its vCPUs ran.
    pub cpu_time: u64,
    /// vCPUs that are online.
    pub online_vcpus: u32,
    /// vCPUs in all.
    pub max_vcpus: u32,
    /// Exits by cause.
    pub exits: ExitCounts,
    /// Frames of the monitor's own that serve it (tables, vCPU state, grant table).
    pub overhead_frames: u64,
    /// Mappings of its frames that other domains hold by grant.
    pub granted_mappings: u64,
}
layout!(
    DomainInfo, 120,
    state @ 4, frames @ 8, max_frames @ 16, cpu_time @ 24, online_vcpus @ 32, max_vcpus @ 36,
    exits @ 40, overhead_frames @ 104, granted_mappings @ 112,
);
