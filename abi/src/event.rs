//! Event channels (public/event_channel.h).

pub mod fifo;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, Gfn, Port, VcpuId, layout, numbers};

numbers! {
    /// Commands of `event_channel_op`; x1 points to the structure named.
    pub enum Command: u64 {
        /// [`BindInterdomain`]
        BindInterdomain = 0,
        /// [`BindVirq`]
        BindVirq = 1,
        /// Physical interrupts as events: not on arm64.
        BindPirq = 2,
        /// [`PortOnly`]
        Close = 3,
        /// [`PortOnly`]
        Send = 4,
        /// [`Status`]
        Status = 5,
        /// [`AllocUnbound`]
        AllocUnbound = 6,
        /// [`BindIpi`]
        BindIpi = 7,
        /// [`BindVcpu`]
        BindVcpu = 8,
        /// [`PortOnly`]
        Unmask = 9,
        /// [`Reset`]
        Reset = 10,
        /// [`InitControl`] (FIFO ABI)
        InitControl = 11,
        /// [`ExpandArray`] (FIFO ABI)
        ExpandArray = 12,
        /// [`SetPriority`] (FIFO ABI)
        SetPriority = 13,
    }
}

numbers! {
    /// Virtual interrupts (`VIRQ_*`, xen.h). Each can be bound; the monitor raises `Console` and
    /// `DomExc`, for dom0.
    pub enum Virq: u32 {
        /// Timer, per vCPU: x86's.
        Timer = 0,
        /// Debug key, per vCPU.
        Debug = 1,
        /// Console input has arrived.
        Console = 2,
        /// A domain changed its state.
        DomExc = 3,
        /// The trace buffer has records.
        TraceBuffer = 4,
        /// A domain was stopped for its debugger.
        Debugger = 6,
        /// A profile has samples, per vCPU: x86's.
        Profile = 7,
        /// The monitor's log has lines.
        ConsoleRing = 8,
        /// A physical CPU came or went.
        PcpuState = 9,
        /// A memory event.
        MemoryEvent = 10,
        /// A message (argo).
        Argo = 11,
        /// Memory is low.
        OutOfMemory = 12,
        /// A performance counter overflowed, per vCPU.
        Pmu = 13,
        /// The architecture's.
        Arch0 = 16,
        /// The architecture's.
        Arch1 = 17,
        /// The architecture's.
        Arch2 = 18,
        /// The architecture's.
        Arch3 = 19,
        /// The architecture's.
        Arch4 = 20,
        /// The architecture's.
        Arch5 = 21,
        /// The architecture's.
        Arch6 = 22,
        /// The architecture's.
        Arch7 = 23,
    }
}

/// Numbers of virtual interrupts (`NR_VIRQS`).
pub const VIRQS: usize = 24;

/// Allocates a port that `remote` may bind.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllocUnbound {
    /// In: whose port; only the privileged domain may name another than itself.
    pub dom: DomId,
    /// In: who may bind it.
    pub remote: DomId,
    /// Out.
    pub port: Port,
}
layout!(AllocUnbound, 8, remote @ 2, port @ 4);

/// Binds a new local port to an unbound port of another domain.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindInterdomain {
    /// In.
    pub remote: DomId,
    /// Reserved.
    pub padding: u16,
    /// In.
    pub remote_port: Port,
    /// Out.
    pub local_port: Port,
}
layout!(BindInterdomain, 12, remote_port @ 4, local_port @ 8);

/// Binds a local port to a virtual interrupt.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVirq {
    /// In: a [`Virq`] number.
    pub virq: u32,
    /// In: zero for those that are not per vCPU.
    pub vcpu: VcpuId,
    /// Out.
    pub port: Port,
}
layout!(BindVirq, 12, vcpu @ 4, port @ 8);

/// Makes a port by which the domain's vCPUs signal one another.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindIpi {
    /// In: the vCPU to be notified.
    pub vcpu: VcpuId,
    /// Out.
    pub port: Port,
}
layout!(BindIpi, 8, port @ 4);

/// Argument of close, send and unmask.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortOnly {
    /// In.
    pub port: Port,
}
layout!(PortOnly, 4);

/// Moves a port's notifications to another vCPU.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVcpu {
    /// In.
    pub port: Port,
    /// In.
    pub vcpu: VcpuId,
}
layout!(BindVcpu, 8, vcpu @ 4);

/// Asks what a port is.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// In.
    pub dom: DomId,
    /// Reserved.
    pub padding: u16,
    /// In.
    pub port: Port,
    /// Out: a [`PortState`] number.
    pub status: u32,
    /// Out: the vCPU that is notified.
    pub vcpu: VcpuId,
    /// Out: unbound and interdomain: the remote [`DomId`] in the low half; virq: its number.
    pub detail: u32,
    /// Out: interdomain: the remote port.
    pub remote_port: Port,
}
layout!(Status, 24, port @ 4, status @ 8, vcpu @ 12, detail @ 16, remote_port @ 20);

numbers! {
    /// What a port is bound to (`EVTCHNSTAT_*`).
    pub enum PortState: u32 {
        /// Nothing.
        Closed = 0,
        /// Waiting for its remote.
        Unbound = 1,
        /// A remote port.
        Interdomain = 2,
        /// A physical interrupt.
        Pirq = 3,
        /// A virtual interrupt.
        Virq = 4,
        /// Another vCPU of the same domain.
        Ipi = 5,
    }
}

/// Closes every port of a domain.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reset {
    /// In.
    pub dom: DomId,
}
layout!(Reset, 2);

/// Switches the domain to the FIFO ABI and registers a vCPU's control block.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitControl {
    /// In: frame of the [`fifo::ControlBlock`].
    pub control: Gfn,
    /// In: its offset in the frame, a multiple of 8.
    pub offset: u32,
    /// In.
    pub vcpu: VcpuId,
    /// Out: [`fifo::LINK_BITS`].
    pub link_bits: u8,
    /// Reserved.
    pub padding: [u8; 7],
}
layout!(InitControl, 24, offset @ 8, vcpu @ 12, link_bits @ 16);

/// Adds a page of event words: those of the next [`fifo::WORDS_PER_PAGE`] ports.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExpandArray {
    /// In.
    pub array: Gfn,
}
layout!(ExpandArray, 8);

/// Sets a port's priority.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPriority {
    /// In.
    pub port: Port,
    /// In: 0 (first) to 15.
    pub priority: u32,
}
layout!(SetPriority, 8, priority @ 4);
