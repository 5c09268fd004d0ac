//! Time: the system counter, and the EL2 physical timer (CNTHP) that ends the monitor's waits
//! (Arm ARM D12).

use crate::types::Ticks;

use super::registers::{CNTHP_CVAL_EL2, read_register, write_register};
use tock_registers::interfaces::Writeable;

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// The count now.
#[inline]
pub fn now() -> Ticks {
    // The count may be read ahead of earlier instructions: this orders it after them.
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    Ticks(read_register!("cntpct_el0"))
}

/// Ticks per second. Never zero.
pub fn frequency() -> u64 {
    match read_register!("cntfrq_el0") & 0xFFFF_FFFF {
        0 => NANOSECONDS_PER_SECOND, // off the target, or firmware forgot to say
        hertz => hertz,
    }
}

/// How long so many ticks take, in nanoseconds, rounded down.
pub fn to_nanoseconds(ticks: Ticks) -> u64 {
    scale(ticks.0, frequency(), NANOSECONDS_PER_SECOND)
}

/// How many ticks so many nanoseconds take, rounded down.
pub fn from_nanoseconds(nanoseconds: u64) -> Ticks {
    Ticks(scale(nanoseconds, NANOSECONDS_PER_SECOND, frequency()))
}

/// `value * to / from` without a 128-bit division, which the CPU does not have. Saturates. `from`
/// is not zero and both rates are below 2^32, so that the remainder's product fits.
fn scale(value: u64, from: u64, to: u64) -> u64 {
    let (whole, rest) = (value / from, value % from);
    whole.saturating_mul(to).saturating_add(rest * to / from)
}

/// Sets when the EL2 timer's interrupt shall come on this CPU, be it [`Ticks::NEVER`].
#[inline(always)]
pub fn set_deadline(deadline: Ticks) {
    const ENABLE: u64 = 1;
    CNTHP_CVAL_EL2.set(deadline.0);
    write_register!("cnthp_ctl_el2", if deadline == Ticks::NEVER { 0 } else { ENABLE });
    // A timer that still fires after it was stopped would interrupt the guest for nothing.
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}

/// Sets when EL1's physical timer shall interrupt on this CPU; `None` for never.
pub fn set_physical_timer(deadline: Option<Ticks>) {
    const ENABLE: u64 = 1;
    if let Some(Ticks(at)) = deadline {
        write_register!("cntp_cval_el0", at);
    }
    write_register!("cntp_ctl_el0", if deadline.is_some() { ENABLE } else { 0 });
    #[cfg(target_os = "none")]
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}

/// The virtual timer of the vCPU in this CPU.
pub mod virtual_timer {
    use super::{read_register, write_register};

    use crate::types::Ticks;

    const ENABLED: u64 = 1;
    const MASKED: u64 = 1 << 1;
    const EXPIRED: u64 = 1 << 2;

    /// When it will fire, if it is armed. The virtual offset of every vCPU is zero.
    #[inline(always)]
    pub fn deadline() -> Option<Ticks> {
        let armed = read_register!("cntv_ctl_el0") & (ENABLED | MASKED) == ENABLED;
        if armed { Some(Ticks(read_register!("cntv_cval_el0"))) } else { None }
    }

    /// Whether it is armed and should have fired.
    #[inline(always)]
    pub fn is_due() -> bool {
        deadline().is_some_and(|deadline| deadline <= super::now())
    }

    /// Masks it if it fires, as Xen does: the guest unmasks it by writing CNTV_CTL_EL0. False if it
    /// does not, even though its time may have come: a timer's status may follow the counter a
    /// little later, and a guest that takes the interrupt before ignores it. It would not hear of
    /// a masked timer again.
    #[inline(always)]
    pub fn take() -> bool {
        let control = read_register!("cntv_ctl_el0");
        let fires = fires(control);
        if fires {
            write_register!("cntv_ctl_el0", control | MASKED);
        }
        fires
    }

    pub(super) const fn fires(control: u64) -> bool {
        control & (ENABLED | MASKED | EXPIRED) == ENABLED | EXPIRED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scaling_is_exact(value in 0u64..1 << 62, from in 1u64..1 << 32, to in 1u64..1 << 32) {
            let exact = u128::from(value) * u128::from(to) / u128::from(from);
            prop_assert_eq!(scale(value, from, to), u64::try_from(exact).unwrap_or(u64::MAX));
        }
    }

    #[test]
    fn a_virtual_timer_fires_when_it_is_on_expired_and_not_masked() {
        let firing: Vec<u64> = (0..8).filter(|&control| virtual_timer::fires(control)).collect();
        assert_eq!(firing, [0b101]);
    }

    #[test]
    fn scaling_saturates() {
        assert_eq!(scale(u64::MAX, 1, 1 << 31), u64::MAX);
    }
}
