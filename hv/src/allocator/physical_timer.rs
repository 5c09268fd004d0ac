//! A vCPU's physical timer (CNTP_*_EL0, Arm ARM D12.2.4), which traps: kernels that know that they
//! are guests use the virtual one, which does not.
//!
//! This is what the guest knows of it. While the vCPU is in a CPU, that CPU's own EL1 physical
//! timer stands at [`PhysicalTimer::deadline`] and interrupts the monitor then.

use crate::types::Ticks;

/// CNTP_CTL_EL0.ENABLE
const ENABLE: u64 = 1 << 0;
/// CNTP_CTL_EL0.IMASK
const MASKED: u64 = 1 << 1;
/// CNTP_CTL_EL0.ISTATUS
const DUE: u64 = 1 << 2;

/// Its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// CNTP_CTL_EL0
    Control,
    /// CNTP_CVAL_EL0
    CompareValue,
    /// CNTP_TVAL_EL0
    TimerValue,
}

/// The timer. The default is one that is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhysicalTimer {
    control: u64,
    compare: u64,
    /// Whether it has interrupted since the guest last wrote a register.
    fired: bool,
}

impl PhysicalTimer {
    /// Reads a register.
    pub fn read(&self, register: Register, now: Ticks) -> u64 {
        match register {
            Register::Control if self.control & ENABLE != 0 && self.compare <= now.0 => {
                self.control | DUE
            }
            Register::Control => self.control,
            Register::CompareValue => self.compare,
            // The low 32 bits of what is left, which may be negative.
            Register::TimerValue => self.compare.wrapping_sub(now.0) & u64::from(u32::MAX),
        }
    }

    /// Writes a register.
    pub fn write(&mut self, register: Register, value: u64, now: Ticks) {
        self.fired = false;
        match register {
            Register::Control => self.control = value & (ENABLE | MASKED),
            Register::CompareValue => self.compare = value,
            Register::TimerValue => {
                let signed = i64::from(value as u32 as i32);
                self.compare = now.0.wrapping_add_signed(signed);
            }
        }
    }

    /// When it will interrupt, if it is armed.
    #[inline]
    pub fn deadline(&self) -> Option<Ticks> {
        let armed = self.control & (ENABLE | MASKED) == ENABLE && !self.fired;
        armed.then_some(Ticks(self.compare))
    }

    /// Takes note that it has interrupted: not again before the guest writes a register.
    pub fn fire(&mut self) {
        self.fired = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fires_once_for_each_time_that_it_is_set() {
        let mut timer = PhysicalTimer::default();
        timer.write(Register::CompareValue, 100, Ticks(10));
        assert_eq!(timer.deadline(), None, "it is off");
        timer.write(Register::Control, ENABLE, Ticks(11));
        assert_eq!(timer.deadline(), Some(Ticks(100)));
        timer.fire();
        assert_eq!(timer.deadline(), None);
        timer.write(Register::TimerValue, 50, Ticks(120));
        assert_eq!(timer.deadline(), Some(Ticks(170)));
        timer.write(Register::Control, ENABLE | MASKED, Ticks(121));
        assert_eq!(timer.deadline(), None, "masked");
    }

    #[test]
    fn what_is_left_is_signed() {
        let mut timer = PhysicalTimer::default();
        timer.write(Register::TimerValue, u64::from((-5i32) as u32), Ticks(100));
        assert_eq!(timer.read(Register::CompareValue, Ticks(100)), 95);
        assert_eq!(timer.read(Register::TimerValue, Ticks(100)), u64::from((-5i32) as u32));
    }

    #[test]
    fn the_status_shows_only_while_it_is_on() {
        let mut timer = PhysicalTimer::default();
        timer.write(Register::CompareValue, 100, Ticks(0));
        assert_eq!(timer.read(Register::Control, Ticks(200)), 0);
        timer.write(Register::Control, u64::MAX, Ticks(0));
        assert_eq!(timer.read(Register::Control, Ticks(99)), ENABLE | MASKED);
        assert_eq!(timer.read(Register::Control, Ticks(100)), ENABLE | MASKED | DUE);
    }
}
