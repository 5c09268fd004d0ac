//! List registers: how the monitor hands virtual interrupts to the CPU's virtual interface
//! (GICv3 architecture specification 12.4, ICH_*).

use tock_registers::interfaces::{Readable, Writeable};

use super::gic::Intid;
use super::registers::{
    ICH_EISR_EL2, ICH_ELRSR_EL2, ICH_HCR_EL2, ICH_MISR_EL2, read_register, write_register,
};

/// The most list registers that a CPU may have.
pub const MAX_LIST_REGISTERS: usize = 16;

/// ICH_HCR_EL2.En: the virtual interface is on.
pub const ENABLE: u64 = 1;

bitflags::bitflags! {
    /// When the maintenance interrupt shall come, beside list registers that ask for it
    /// themselves (bits of ICH_HCR_EL2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Request: u64 {
        /// At most one list register is left in use.
        const UNDERFLOW = 1 << 1;
        /// A guest's end of interrupt found no list register.
        const ENTRY_NOT_PRESENT = 1 << 2;
        /// No list register is pending any more.
        const NO_PENDING = 1 << 3;
    }

    /// Why the maintenance interrupt came (bits of ICH_MISR_EL2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Reason: u64 {
        /// A list register with `notify_end` was ended.
        const ENDED = 1 << 0;
        /// At most one list register is left in use.
        const UNDERFLOW = 1 << 1;
        /// A guest's end of interrupt found no list register.
        const ENTRY_NOT_PRESENT = 1 << 2;
        /// No list register is pending any more.
        const NO_PENDING = 1 << 3;
    }
}

/// What an interrupt in a list register is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing: the register is free.
    Inactive,
    /// For the guest to acknowledge it.
    Pending,
    /// For the guest to end it.
    Active,
    /// For both: it came again while it was being handled.
    PendingAndActive,
}

/// The value of one list register. The default is a free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct ListRegister(u64);

const PHYSICAL_SHIFT: u32 = 32;
const PHYSICAL_MASK: u64 = 0x1FFF;
const NOTIFY_END: u64 = 1 << 41;
const PRIORITY_SHIFT: u32 = 48;
const GROUP_1: u64 = 1 << 60;
const HARDWARE: u64 = 1 << 61;
const STATE_SHIFT: u32 = 62;

impl ListRegister {
    /// A pending group 1 interrupt that exists only in software.
    pub const fn pending(intid: Intid, priority: u8) -> ListRegister {
        ListRegister(
            (1 << STATE_SHIFT) | GROUP_1 | ((priority as u64) << PRIORITY_SHIFT) | intid.0 as u64,
        )
    }

    /// The same, ending the given physical interrupt when the guest ends this one.
    pub const fn with_physical(self, physical: Intid) -> ListRegister {
        let physical = (physical.0 as u64 & PHYSICAL_MASK) << PHYSICAL_SHIFT;
        ListRegister(self.0 | HARDWARE | physical)
    }

    /// The same, raising the maintenance interrupt when the guest ends it. Only for one without a
    /// physical interrupt, whose field the request shares.
    pub const fn with_notify_end(self) -> ListRegister {
        ListRegister(self.0 | NOTIFY_END)
    }

    /// The same in another state.
    pub const fn with_state(self, state: State) -> ListRegister {
        ListRegister(self.0 & !(3 << STATE_SHIFT) | ((state as u64) << STATE_SHIFT))
    }

    /// The interrupt that the guest sees.
    pub const fn intid(self) -> Intid {
        Intid(self.0 as u32)
    }

    /// The physical interrupt that it stands for, if any.
    pub const fn physical(self) -> Option<Intid> {
        match self.0 & HARDWARE {
            0 => None,
            _ => Some(Intid(((self.0 >> PHYSICAL_SHIFT) & PHYSICAL_MASK) as u32)),
        }
    }

    /// What it is waiting for.
    pub const fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Inactive,
            1 => State::Pending,
            2 => State::Active,
            _ => State::PendingAndActive,
        }
    }

    /// Whether it waits for the guest to acknowledge it.
    pub const fn is_pending(self) -> bool {
        self.0 >> STATE_SHIFT & 1 != 0
    }

    /// Whether it is free.
    pub const fn is_empty(self) -> bool {
        self.0 >> STATE_SHIFT == 0
    }
}

/// Which list registers are free, one bit each. Bits of those that do not exist are zero.
#[inline]
pub fn empty_mask() -> u16 {
    ICH_ELRSR_EL2.get() as u16
}

/// Which list registers with `notify_end` were ended, one bit each.
pub fn ended_mask() -> u16 {
    ICH_EISR_EL2.get() as u16
}

/// Why the maintenance interrupt is pending.
pub fn reason() -> Reason {
    Reason::from_bits_truncate(ICH_MISR_EL2.get())
}

/// Sets when the maintenance interrupt shall come, for the vCPU in this CPU.
pub fn request(when: Request) {
    ICH_HCR_EL2.set(ENABLE | when.bits());
}

/// Access by number to registers whose number is part of their name.
macro_rules! list_registers {
    ($($number:literal $name:literal)*) => {
        /// Reads list register `n`, which must exist.
        #[inline]
        pub fn read(n: usize) -> ListRegister {
            ListRegister(match n {
                $($number => read_register!($name),)*
                _ => 0,
            })
        }

        /// Writes list register `n`, which must exist.
        #[inline]
        pub fn write(n: usize, value: ListRegister) {
            match n {
                $($number => write_register!($name, value.0),)*
                _ => {}
            }
        }
    };
}

list_registers! {
    0 "ich_lr0_el2" 1 "ich_lr1_el2" 2 "ich_lr2_el2" 3 "ich_lr3_el2"
    4 "ich_lr4_el2" 5 "ich_lr5_el2" 6 "ich_lr6_el2" 7 "ich_lr7_el2"
    8 "ich_lr8_el2" 9 "ich_lr9_el2" 10 "ich_lr10_el2" 11 "ich_lr11_el2"
    12 "ich_lr12_el2" 13 "ich_lr13_el2" 14 "ich_lr14_el2" 15 "ich_lr15_el2"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_as_the_architecture_says() {
        // ICH_LR<n>_EL2: State 63:62, HW 61, Group 60, Priority 55:48, pINTID 44:32, vINTID 31:0.
        let software = ListRegister::pending(Intid(31), 0xA0);
        assert_eq!(software.0, 0x50A0_0000_0000_001F);
        assert_eq!(software.with_physical(Intid(79)).0, 0x70A0_004F_0000_001F);
        assert_eq!(software.with_notify_end().0, 0x50A0_0200_0000_001F);
        assert_eq!(ListRegister::default().state(), State::Inactive);
    }

    proptest! {
        #[test]
        fn fields_come_back(intid in 0u32..1020, physical in proptest::option::of(32u32..1020), priority: u8) {
            let mut value = ListRegister::pending(Intid(intid), priority);
            if let Some(physical) = physical {
                value = value.with_physical(Intid(physical));
            }
            prop_assert_eq!(value.intid(), Intid(intid));
            prop_assert_eq!(value.physical(), physical.map(Intid));
            for state in [State::Inactive, State::Pending, State::Active, State::PendingAndActive] {
                prop_assert_eq!(value.with_state(state).state(), state);
                prop_assert_eq!(value.with_state(state).intid(), Intid(intid));
                prop_assert_eq!(value.with_state(state).is_empty(), state == State::Inactive);
            }
        }
    }
}
