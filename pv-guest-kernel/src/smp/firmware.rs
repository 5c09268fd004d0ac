//! vCPUs as the monitor's PSCI knows them (Arm DEN0022, section 5).

use abi::VcpuId;
use abi::psci::{self, Affinity, Function};

use super::error::Error;
use crate::machine;

/// Starts a vCPU that is off, at `entry` with `context` in x0.
pub(super) fn switch_on(vcpu: VcpuId, entry: u64, context: u64) -> Result<(), Error> {
    check(machine::firmware_call(Function::CpuOn.raw(), [vcpu.0.into(), entry, context]))
}

/// The end of the vCPU that executes this, until it is started again.
pub(super) fn switch_off() -> ! {
    loop {
        machine::firmware_call(Function::CpuOff.raw(), [0; 3]);
    }
}

/// Whether the monitor says that a vCPU is on.
///
/// # Errors
/// [`Error::Psci`] if there is no such vCPU.
pub fn affinity_info(vcpu: VcpuId) -> Result<Affinity, Error> {
    let answer = machine::firmware_call(Function::AffinityInfo.raw(), [vcpu.0.into(), 0, 0]);
    check(answer)?;
    Ok(Affinity::from_raw(answer).unwrap_or(Affinity::On))
}

fn check(answer: u64) -> Result<(), Error> {
    match answer.cast_signed() {
        0.. => Ok(()),
        error => {
            let error = psci::Error::from_raw(error).unwrap_or(psci::Error::NotSupported);
            Err(Error::Psci(error))
        }
    }
}
