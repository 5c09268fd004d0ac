//! The machine's real-time clock, a PL031 (Arm DDI 0224). It is read once, at boot; from then on
//! the system counter tells the time.

#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "a device register is read"))]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::timer;

/// Nanoseconds from 1970-01-01 00:00 UTC to the system counter's zero; 0: not known.
static COUNTER_ZERO: AtomicU64 = AtomicU64::new(0);

/// Reads the clock.
///
/// # Safety
/// It must be a PL031, mapped as device memory, and used by nothing else.
#[cfg(target_os = "none")]
pub unsafe fn init(address: u64) {
    /// RTCDR: seconds since 1970.
    const DATA: u64 = 0;
    let data = core::ptr::with_exposed_provenance::<u32>((address + DATA) as usize);
    // SAFETY: as the caller says; reading this register has no effect.
    let seconds = unsafe { data.read_volatile() };
    let now = Duration::from_secs(seconds.into());
    let since_zero = Duration::from_nanos(timer::to_nanoseconds(timer::now()));
    let zero = now.saturating_sub(since_zero).as_nanos();
    COUNTER_ZERO.store(u64::try_from(zero).unwrap_or(0), Ordering::Relaxed);
}

/// Time since 1970-01-01 00:00 UTC, to the second as the clock told it. `None` if the machine has
/// no clock.
pub fn wall_clock() -> Option<Duration> {
    let zero = COUNTER_ZERO.load(Ordering::Relaxed);
    let now = zero.checked_add(timer::to_nanoseconds(timer::now()))?;
    (zero != 0).then(|| Duration::from_nanos(now))
}
