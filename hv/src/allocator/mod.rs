//! Who owns what: frames, guest-physical spaces, domains, vCPUs, events, grants and CPU time.
//!
//! All of it is plain logic on one value, [`Monitor`], under one lock. It holds no references
//! into itself: domains, vCPUs and frames name each other by number and are looked up.

#![deny(unsafe_code)]

pub mod console;
mod control;
pub mod domain;
pub mod event;
pub mod frame;
#[expect(unsafe_code, reason = "turns frames that the monitor owns into references")]
pub mod frame_box;
pub mod grant;
mod info;
pub mod interrupt;
pub mod lifecycle;
pub mod log_budget;
pub mod physical_timer;
pub mod physmap;
pub mod quota;
#[expect(unsafe_code, reason = "takes the boot code's word for what is RAM")]
pub mod ram;
pub mod scheduler;
pub mod stage2;
#[cfg(test)]
pub(crate) mod testing;
pub mod uart;
pub mod vcpu;
pub mod watchdog;

use abi::DomId;

use self::domain::DomainTable;
use self::frame::FramePool;
use self::scheduler::{CpuSet, Scheduler};
use self::watchdog::Watchdogs;

pub use self::lifecycle::{CreateError, Progress};

/// The most domains at a time, dead ones that still have frames included.
pub const MAX_DOMAINS: usize = 256;

/// Where a domain stands in every table of domains.
#[inline]
pub const fn slot(domain: DomId) -> usize {
    domain.0 as usize % MAX_DOMAINS
}

/// Everything that the monitor knows. What every hypercall looks at comes first, within reach of a
/// load from the beginning.
#[derive(Debug)]
#[repr(C)]
pub struct Monitor {
    /// CPUs to interrupt once the monitor's work is done.
    pub kicks: CpuSet,
    /// Domains.
    pub domains: DomainTable,
    /// Who runs where, and when.
    pub scheduler: Scheduler,
    /// RAM.
    pub frames: FramePool,
    /// What stops domains that do not answer any more.
    pub watchdogs: Watchdogs,
    /// How often a CPU was interrupted because it was among the kicks.
    pub ipis: u64,
}

impl Monitor {
    /// A monitor without RAM, CPUs and domains.
    pub const fn new() -> Monitor {
        Monitor {
            kicks: CpuSet::EMPTY,
            domains: DomainTable::new(),
            scheduler: Scheduler::new(),
            frames: FramePool::empty(),
            watchdogs: Watchdogs::new(),
            ipis: 0,
        }
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to do what only the privileged domain may do.
///
/// The dispatcher grants it after it has checked who calls; an operation on other domains takes
/// one, so that it cannot be reached without that check.
#[derive(Debug, Clone, Copy)]
pub struct Privileged(());

impl Privileged {
    /// For the dispatcher alone, once it knows that the caller is privileged, and for the boot
    /// code, which acts for itself.
    pub(crate) const fn granted_by_dispatcher() -> Privileged {
        Privileged(())
    }
}
