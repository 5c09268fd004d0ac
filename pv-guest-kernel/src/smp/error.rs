//! What can be wrong with a vCPU.

use abi::{Errno, psci};

/// Why a vCPU cannot be used as was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is off.
    #[error("the vCPU is off")]
    Off,
    /// It is on.
    #[error("the vCPU is on already")]
    On,
    /// vCPU 0 runs the kernel.
    #[error("vCPU 0 stays on")]
    First,
    /// There is no memory for its stack: see the memory layout in the device tree.
    #[error("there is no room for the vCPU's stack behind the kernel's image")]
    NoStack,
    /// The monitor refuses.
    #[error("PSCI: {0:?}")]
    Psci(psci::Error),
    /// The monitor refuses.
    #[error("{0}")]
    Monitor(#[from] Errno),
}
