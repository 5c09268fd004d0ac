//! Exceptions that a guest takes because of what it did: how AArch64 enters EL1 (Arm ARM D1.3).

use bitflags::bitflags;

/// EL1h with all interrupts masked: the state in which EL1 takes an exception.
const PSTATE_HANDLER: u64 = 0x3C5;
/// SPSR_EL2.M\[4:0\]; the highest of these bits says AArch32.
const MODE_MASK: u64 = 0x1F;
const MODE_AARCH32: u64 = 0x10;
const MODE_EL1T: u64 = 0b0100;
const MODE_EL1H: u64 = 0b0101;

/// Exception classes (ESR_ELx.EC, Arm ARM D24.2.40).
const EC_UNKNOWN: u64 = 0x00;
const EC_INSTRUCTION_ABORT_LOWER: u64 = 0x20;
const EC_DATA_ABORT_LOWER: u64 = 0x24;
const EC_SHIFT: u32 = 26;
/// ESR_ELx.IL: the instruction is 32 bits long.
const IL: u64 = 1 << 25;
/// Fault status: synchronous external abort, not on a table walk.
const EXTERNAL_ABORT: u64 = 0x10;

bitflags! {
    /// ISS bits that a data abort's syndrome keeps from the trap that caused it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DataAbort: u64 {
        /// The access was a write.
        const WRITE = 1 << 6;
    }
}

/// Why the guest takes an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An instruction that does not exist here.
    Undefined,
    /// Nothing answers at the address of an instruction.
    InstructionAbort,
    /// Nothing answers at the address of an access.
    DataAbort(DataAbort),
}

/// How EL1 enters its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Offset from VBAR_EL1.
    pub vector: u64,
    /// ESR_EL1.
    pub syndrome: u64,
    /// PSTATE in the handler.
    pub pstate: u64,
}

impl Entry {
    /// The entry for a fault of code that ran with this PSTATE.
    pub const fn synchronous(fault: Fault, interrupted: u64) -> Entry {
        let from_el1 = matches!(interrupted & MODE_MASK, MODE_EL1T | MODE_EL1H);
        let vector = match interrupted & MODE_MASK {
            MODE_EL1T => 0x000,
            MODE_EL1H => 0x200,
            mode if mode & MODE_AARCH32 != 0 => 0x600,
            _ => 0x400,
        };
        // The class of an abort taken without a change of exception level is one higher.
        let same_level = from_el1 as u64;
        let (class, iss) = match fault {
            Fault::Undefined => (EC_UNKNOWN, 0),
            Fault::InstructionAbort => (EC_INSTRUCTION_ABORT_LOWER + same_level, EXTERNAL_ABORT),
            Fault::DataAbort(kept) => {
                (EC_DATA_ABORT_LOWER + same_level, EXTERNAL_ABORT | kept.bits())
            }
        };
        Entry { vector, syndrome: class << EC_SHIFT | IL | iss, pstate: PSTATE_HANDLER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_of_the_kernel_is_of_the_same_level() {
        let entry = Entry::synchronous(Fault::DataAbort(DataAbort::WRITE), 0x3C5);
        assert_eq!(entry, Entry { vector: 0x200, syndrome: 0x9600_0050, pstate: 0x3C5 });
    }

    #[test]
    fn an_undefined_instruction_of_user_code_uses_the_lower_level_vector() {
        let entry = Entry::synchronous(Fault::Undefined, 0);
        assert_eq!(entry, Entry { vector: 0x400, syndrome: 0x0200_0000, pstate: 0x3C5 });
        let aarch32 = Entry::synchronous(Fault::Undefined, 0x10);
        assert_eq!(aarch32, Entry { vector: 0x600, syndrome: 0x0200_0000, pstate: 0x3C5 });
    }
}
