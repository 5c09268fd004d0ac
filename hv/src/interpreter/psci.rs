//! PSCI 1.1 (Arm DEN 0022): how a guest starts and stops its vCPUs and itself.

use abi::numbers;
use abi::sched::ShutdownReason;

numbers! {
    /// Function identifiers: 32-bit and, where an address is passed, 64-bit calls.
    pub enum Function: u32 {
        /// PSCI_VERSION
        Version = 0x8400_0000,
        /// CPU_OFF
        CpuOff = 0x8400_0002,
        /// CPU_ON, 64-bit.
        CpuOn = 0xC400_0003,
        /// AFFINITY_INFO, 64-bit.
        AffinityInfo = 0xC400_0004,
        /// MIGRATE_INFO_TYPE
        MigrateInfoType = 0x8400_0006,
        /// SYSTEM_OFF
        SystemOff = 0x8400_0008,
        /// SYSTEM_RESET
        SystemReset = 0x8400_0009,
        /// PSCI_FEATURES
        Features = 0x8400_000A,
    }
}

/// Version 1.1.
const VERSION: u64 = 0x0001_0001;
/// "No migration of a trusted OS is needed."
const MIGRATION_NOT_NEEDED: u64 = 2;

/// Error codes (DEN 0022, 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// NOT_SUPPORTED
    NotSupported = -1,
    /// INVALID_PARAMETERS
    InvalidParameters = -2,
    /// ALREADY_ON
    AlreadyOn = -4,
}

impl Error {
    /// What the guest finds in x0.
    pub const fn to_register(self) -> u64 {
        (self as i64).cast_unsigned()
    }
}

/// AFFINITY_INFO's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Affinity {
    /// The vCPU is on.
    On = 0,
    /// It is off.
    Off = 1,
}

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
