//! The machine's power, by PSCI calls to the firmware (Arm DEN 0022), and how a CPU stops.

use smccc::psci;

/// The firmware's refusal of a power call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerError(pub psci::Error);

impl core::fmt::Display for PowerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "firmware refused: {}", self.0)
    }
}

/// Switches the machine off.
#[cfg(target_os = "none")]
pub fn system_off() -> ! {
    let refusal = psci::system_off::<smccc::Smc>();
    log::error!("PSCI SYSTEM_OFF returned {refusal:?}");
    halt()
}

/// Resets the machine.
#[cfg(target_os = "none")]
pub fn system_reset() -> ! {
    let refusal = psci::system_reset::<smccc::Smc>();
    log::error!("PSCI SYSTEM_RESET returned {refusal:?}");
    halt()
}

/// Starts the CPU of that affinity at a physical address with `context` in x0.
#[cfg(target_os = "none")]
pub(super) fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), PowerError> {
    psci::cpu_on::<smccc::Smc>(mpidr, entry, context).map_err(PowerError)
}

/// Stops this CPU for good.
#[cfg(target_os = "none")]
pub fn halt() -> ! {
    loop {
        // Interrupts are masked at EL2: what wakes the CPU is not taken.
        aarch64_cpu::asm::wfi();
    }
}

/// Waits for an interrupt to become pending on this CPU (also a masked one). Off the target:
/// returns at once.
pub fn wait_for_interrupt() {
    #[cfg(target_os = "none")]
    {
        // Stores that another CPU waits for shall not be held up by the sleep.
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
        aarch64_cpu::asm::wfi();
    }
}

/// Off the target there is no machine to switch off.
#[cfg(not(target_os = "none"))]
pub fn system_off() -> ! {
    panic!("the machine was switched off")
}

/// Off the target there is no machine to reset.
#[cfg(not(target_os = "none"))]
pub fn system_reset() -> ! {
    panic!("the machine was reset")
}
