//! The EL1 physical timer (Arm ARM D12.2.4): no hypercall, but the monitor answers for it, too.

use aarch64_cpu::registers::{CNTP_CTL_EL0, CNTP_TVAL_EL0, CNTPCT_EL0};
use pv_guest_kernel::smp;
use tock_registers::interfaces::{Readable, Writeable};

use crate::call::Answers;

/// Asks. The timer's interrupt stays masked: nobody here takes it.
pub fn ask(answers: &mut Answers) {
    answers.check("it is off", !CNTP_CTL_EL0.is_set(CNTP_CTL_EL0::ENABLE));
    let start = CNTPCT_EL0.get();
    let far = u32::MAX >> 1;
    CNTP_TVAL_EL0.set(u64::from(far));
    CNTP_CTL_EL0.write(CNTP_CTL_EL0::ENABLE::SET + CNTP_CTL_EL0::IMASK::SET);
    answers.check("it is on", CNTP_CTL_EL0.is_set(CNTP_CTL_EL0::ENABLE));
    answers.check("it is not due", !CNTP_CTL_EL0.is_set(CNTP_CTL_EL0::ISTATUS));
    let left = CNTP_TVAL_EL0.get() as u32;
    answers.check("its time runs down", left > 0 && left < far);
    CNTP_TVAL_EL0.set(1000);
    while !CNTP_CTL_EL0.is_set(CNTP_CTL_EL0::ISTATUS) {
        smp::relax();
    }
    answers.check("it is due, and no sooner", CNTPCT_EL0.get().saturating_sub(start) >= 1000);
    CNTP_CTL_EL0.write(CNTP_CTL_EL0::ENABLE::CLEAR);
    answers.check("it is off again", !CNTP_CTL_EL0.is_set(CNTP_CTL_EL0::ENABLE));
}
