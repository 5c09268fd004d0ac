//! PSCI 1.1 (Arm DEN 0022): how a guest starts and stops its vCPUs and itself. By `HVC #0`:
//! function in x0, arguments in x1 to x3, result in x0.

use crate::numbers;

numbers! {
    /// Function identifiers: 32-bit and, where an address is passed, 64-bit calls.
    pub enum Function: u32 {
        /// PSCI_VERSION
        Version = 0x8400_0000,
        /// CPU_OFF
        CpuOff = 0x8400_0002,
        /// CPU_ON, 64-bit: affinity, entry (guest-physical), what it finds in x0.
        CpuOn = 0xC400_0003,
        /// AFFINITY_INFO, 64-bit: affinity; answers an [`Affinity`].
        AffinityInfo = 0xC400_0004,
        /// MIGRATE_INFO_TYPE
        MigrateInfoType = 0x8400_0006,
        /// SYSTEM_OFF
        SystemOff = 0x8400_0008,
        /// SYSTEM_RESET
        SystemReset = 0x8400_0009,
        /// PSCI_FEATURES: a function; zero if it exists.
        Features = 0x8400_000A,
    }
}

numbers! {
    /// Error codes (DEN 0022, 5.2.2).
    pub enum Error: i64 {
        /// NOT_SUPPORTED
        NotSupported = -1,
        /// INVALID_PARAMETERS
        InvalidParameters = -2,
        /// ALREADY_ON
        AlreadyOn = -4,
    }
}

impl Error {
    /// What the guest finds in x0.
    pub const fn to_register(self) -> u64 {
        self.raw().cast_unsigned()
    }
}

numbers! {
    /// AFFINITY_INFO's answer.
    pub enum Affinity: u64 {
        /// The vCPU is on.
        On = 0,
        /// It is off.
        Off = 1,
    }
}
