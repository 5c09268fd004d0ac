//! `sched_op` (public/sched.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, layout, numbers};

numbers! {
    /// Commands of `sched_op`.
    pub enum Command: u64 {
        /// Gives the CPU to another vCPU.
        Yield = 0,
        /// Sleeps until an event is pending. Guests on arm64 use WFI instead.
        Block = 1,
        /// [`Shutdown`]
        Shutdown = 2,
        /// [`Poll`]
        Poll = 3,
        /// [`RemoteShutdown`]
        RemoteShutdown = 4,
        /// [`Shutdown`]: only notes the reason, for whoever stops the domain later.
        ShutdownCode = 5,
        /// [`Watchdog`]
        Watchdog = 6,
    }
}

numbers! {
    /// Why a domain stopped (`SHUTDOWN_*`).
    pub enum ShutdownReason: u32 {
        /// It is done.
        Poweroff = 0,
        /// It wants to start again.
        Reboot = 1,
        /// It was suspended.
        Suspend = 2,
        /// It failed.
        Crash = 3,
        /// Its watchdog expired.
        Watchdog = 4,
        /// It wants a new kernel in the same domain.
        SoftReset = 5,
    }
}

/// Argument of [`Command::Shutdown`] and [`Command::ShutdownCode`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shutdown {
    /// [`ShutdownReason`]
    pub reason: u32,
}
layout!(Shutdown, 4);

/// Sleeps until one of the ports is pending or the time has come.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Poll {
    /// Pointer to an array of ports.
    pub ports: u64,
    /// Its length.
    pub nr_ports: u32,
    /// Reserved.
    pub padding: u32,
    /// Absolute system time in nanoseconds; zero: no limit.
    pub timeout: u64,
}
layout!(Poll, 24, nr_ports @ 8, timeout @ 16);

/// The most ports that one [`Poll`] may name.
pub const POLL_MAX_PORTS: u32 = 128;

/// Stops another domain (privileged).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoteShutdown {
    /// Which.
    pub dom: DomId,
    /// Reserved.
    pub padding: u16,
    /// [`ShutdownReason`]
    pub reason: u32,
}
layout!(RemoteShutdown, 8, reason @ 4);

/// Sets, winds up again or stops one of the domain's watchdogs. One that runs out stops the domain
/// with [`ShutdownReason::Watchdog`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Watchdog {
    /// Which, from 1; zero: a free one, whose number is returned.
    pub id: u32,
    /// Seconds from now; zero stops it (unless it is new).
    pub timeout: u32,
}
layout!(Watchdog, 8, timeout @ 4);

/// Watchdogs that a domain has.
pub const WATCHDOGS: usize = 2;
