//! Making the vCPU in this CPU take an exception at EL1, as the hardware would (Arm ARM D1.3.5).

use super::context;
use super::registers::{read_register, write_register};

/// Enters the guest's handler at `vector` bytes from VBAR_EL1, with the given ESR_EL1, FAR_EL1 and
/// PSTATE. What was interrupted goes to ELR_EL1 and SPSR_EL1.
pub fn enter(vector: u64, syndrome: u64, address: u64, pstate: u64) {
    write_register!("elr_el1", context::elr());
    write_register!("spsr_el1", context::spsr());
    write_register!("esr_el1", syndrome);
    write_register!("far_el1", address);
    context::set_elr(read_register!("vbar_el1").wrapping_add(vector));
    context::set_spsr(pstate);
}
