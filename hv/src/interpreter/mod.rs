//! One routine for each thing that a guest does as on real hardware and that is emulated: power
//! control (PSCI), the firmware interface (SMCCC), the interrupt controller's registers, and
//! system registers that would show or change what is not the guest's.

pub mod bank;
pub mod distributor;
pub mod exception;
pub mod psci;
pub mod redistributor;
pub mod smccc;
pub mod system_register;

/// Bytes that a memory-mapped access moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    HalfWord,
    /// Four bytes.
    Word,
    /// Eight bytes.
    DoubleWord,
}

impl Width {
    /// How many.
    pub const fn bytes(self) -> u64 {
        match self {
            Width::Byte => 1,
            Width::HalfWord => 2,
            Width::Word => 4,
            Width::DoubleWord => 8,
        }
    }

    /// The low bits of a value that such an access moves.
    pub const fn truncate(self, value: u64) -> u64 {
        match self {
            Width::DoubleWord => value,
            narrower => value & ((1 << (8 * narrower.bytes())) - 1),
        }
    }
}
