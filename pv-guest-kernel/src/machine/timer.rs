//! The virtual counter and timer. Neither traps.
//!
//! When the timer expires the monitor masks it (CNTV_CTL_EL0.IMASK) and injects its interrupt, as
//! Xen does; it is written anew before each sleep.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0};
use tock_registers::interfaces::{Readable, Writeable};

use crate::time::Ticks;

/// The counter when this kernel started.
static START: AtomicU64 = AtomicU64::new(0);

/// Lets [`ticks`] begin at zero.
pub(crate) fn start() {
    START.store(CNTVCT_EL0.get(), Ordering::Relaxed);
}

/// Time since this kernel started.
pub(crate) fn ticks() -> Ticks {
    Ticks(CNTVCT_EL0.get().wrapping_sub(START.load(Ordering::Relaxed)))
}

/// Ticks of the counter in a second.
pub(crate) fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Arms the timer for this time since start, or turns it off.
pub(super) fn set(deadline: Option<Ticks>) {
    match deadline {
        Some(Ticks(deadline)) => {
            CNTV_CVAL_EL0.set(START.load(Ordering::Relaxed).saturating_add(deadline));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
        }
        None => CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR),
    }
}
