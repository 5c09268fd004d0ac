//! PSCI: from a call's registers to what is asked for. The numbers are in [`abi::psci`].

use abi::psci::{Error, Function};
use abi::sched::ShutdownReason;

/// Version 1.1.
const VERSION: u64 = 0x0001_0001;
/// "No migration of a trusted OS is needed."
const MIGRATION_NOT_NEEDED: u64 = 2;

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Nothing but this value in x0.
    Answer(u64),
    /// Start a vCPU.
    CpuOn {
        /// Its affinity (MPIDR without the flag bits).
        target: u64,
        /// Where it starts (guest-physical).
        entry: u64,
        /// What it finds in x0.
        context: u64,
    },
    /// Stop the calling vCPU.
    CpuOff,
    /// Say whether a vCPU is on.
    AffinityInfo {
        /// Its affinity.
        target: u64,
    },
    /// Stop the domain.
    Shutdown(ShutdownReason),
}

/// Decodes a call from x0 to x3. `None` if x0 names no function of PSCI.
pub fn decode(x: [u64; 4]) -> Option<Request> {
    let [function, x1, x2, x3] = x;
    Some(match Function::from_raw(function as u32)? {
        Function::Version => Request::Answer(VERSION),
        Function::CpuOff => Request::CpuOff,
        Function::CpuOn => Request::CpuOn { target: x1, entry: x2, context: x3 },
        Function::AffinityInfo => Request::AffinityInfo { target: x1 },
        Function::MigrateInfoType => Request::Answer(MIGRATION_NOT_NEEDED),
        Function::SystemOff => Request::Shutdown(ShutdownReason::Poweroff),
        Function::SystemReset => Request::Shutdown(ShutdownReason::Reboot),
        Function::Features => Request::Answer(match Function::from_raw(x1 as u32) {
            Some(_) => 0,
            None if x1 as u32 == super::smccc::VERSION_FUNCTION => 0,
            None => Error::NotSupported.to_register(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_tells_what_exists() {
        let not_supported = Request::Answer(Error::NotSupported.to_register());
        assert_eq!(decode([0x8400_000A, 0xC400_0003, 0, 0]), Some(Request::Answer(0)));
        assert_eq!(decode([0x8400_000A, 0xC400_0001, 0, 0]), Some(not_supported));
        assert_eq!(decode([0x8400_000A, 0x8000_0000, 0, 0]), Some(Request::Answer(0)));
    }

    #[test]
    fn other_functions_are_not_psci() {
        assert_eq!(decode([0x8600_0000, 0, 0, 0]), None);
        assert_eq!(decode([0x8400_0000, 0, 0, 0]), Some(Request::Answer(0x10001)));
    }
}
