//! The virtual counter and timer. Neither traps.
//!
//! When the timer expires the monitor masks it (CNTV_CTL_EL0.IMASK) and injects its interrupt, as
//! Xen does; it is written anew before each sleep.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0};
use tock_registers::interfaces::{Readable, Writeable};

const NANOSECONDS: u64 = 1_000_000_000;

/// The counter when this kernel started.
static START: AtomicU64 = AtomicU64::new(0);

/// Lets [`now`] begin at zero.
pub(crate) fn start() {
    START.store(CNTVCT_EL0.get(), Ordering::Relaxed);
}

/// Time since this kernel started.
pub(crate) fn now() -> Duration {
    duration(CNTVCT_EL0.get().wrapping_sub(START.load(Ordering::Relaxed)))
}

/// Arms the timer for this time since start, or turns it off.
pub(super) fn set(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => {
            CNTV_CVAL_EL0.set(START.load(Ordering::Relaxed).saturating_add(ticks(deadline)));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
        }
        None => CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR),
    }
}

fn duration(ticks: u64) -> Duration {
    let frequency = CNTFRQ_EL0.get().max(1);
    let rest = ticks % frequency * NANOSECONDS / frequency;
    // Less than a second's nanoseconds.
    Duration::new(ticks / frequency, rest as u32)
}

/// Rounds up, so that a sleeper never finds that it woke too early.
fn ticks(duration: Duration) -> u64 {
    let frequency = CNTFRQ_EL0.get();
    let part = u64::from(duration.subsec_nanos()).saturating_mul(frequency).div_ceil(NANOSECONDS);
    duration.as_secs().saturating_mul(frequency).saturating_add(part)
}
