//! The registers that distributor and redistributor have in common: those with a bit, two bits or
//! a byte for each interrupt (Arm IHI 0069, 12.9 and 12.11). They differ only in which bank of 32
//! interrupts an offset means.

use super::Width;
use crate::allocator::interrupt::{BANK, Bank, ListRegisters, Listed, bits};

/// A register that describes interrupts of one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// IGROUPR
    Group,
    /// ISENABLER
    SetEnable,
    /// ICENABLER
    ClearEnable,
    /// ISPENDR
    SetPending,
    /// ICPENDR
    ClearPending,
    /// ISACTIVER
    SetActive,
    /// ICACTIVER
    ClearActive,
    /// IPRIORITYR, from this interrupt of the bank.
    Priority(usize),
    /// ICFGR for the 16 interrupts from this one.
    Config(u32),
}

/// What an offset means: the bank's number and the register. `None` for other registers.
pub fn decode(offset: u64) -> Option<(usize, Register)> {
    let register = match offset {
        0x080..0x100 => Register::Group,
        0x100..0x180 => Register::SetEnable,
        0x180..0x200 => Register::ClearEnable,
        0x200..0x280 => Register::SetPending,
        0x280..0x300 => Register::ClearPending,
        0x300..0x380 => Register::SetActive,
        0x380..0x400 => Register::ClearActive,
        0x400..0x800 => {
            let interrupt = (offset - 0x400) as usize;
            return Some((interrupt / 32, Register::Priority(interrupt % 32)));
        }
        0xC00..0xD00 => {
            let word = (offset - 0xC00) / 4;
            return Some(((word / 2) as usize, Register::Config(16 * (word % 2) as u32)));
        }
        _ => return None,
    };
    Some(((offset as usize & 0x7F) / 4, register))
}

/// A bank in its place, with the list registers in which some of its interrupts may stand.
#[derive(Debug)]
pub struct BankView<'a, L> {
    /// The bank.
    pub bank: &'a mut Bank,
    /// INTID of its first interrupt.
    pub base: u32,
    /// `None` when they belong to a vCPU that does not run on this CPU.
    pub listed: Option<(&'a Listed, &'a mut L)>,
}

impl<L: ListRegisters> BankView<'_, L> {
    /// Reads a register.
    pub fn read(&self, register: Register, width: Width) -> u64 {
        let bank = &self.bank;
        let word = match register {
            Register::Group => bank.group1,
            Register::SetEnable | Register::ClearEnable => bank.enabled,
            Register::SetPending | Register::ClearPending => bank.pending | self.listed_bits().0,
            Register::SetActive | Register::ClearActive => bank.active | self.listed_bits().1,
            Register::Priority(first) => return read_priorities(bank, first, width),
            Register::Config(first) => read_config(bank, first),
        };
        u64::from(word)
    }

    /// Writes a register.
    pub fn write(&mut self, register: Register, width: Width, value: u64) {
        let bits = value as u32;
        match register {
            Register::Group => self.bank.group1 = bits,
            Register::SetEnable => self.bank.enabled |= bits,
            Register::ClearEnable => self.disable(bits),
            Register::SetPending => self.bank.pending |= bits,
            Register::ClearPending => {
                self.withdraw_pending(bits);
                self.bank.pending &= !bits;
            }
            Register::SetActive => self.bank.active |= bits,
            Register::ClearActive => self.deactivate(bits),
            Register::Priority(first) => write_priorities(self.bank, first, width, value),
            Register::Config(first) => write_config(self.bank, self.base, first, bits),
        }
    }

    /// Disables interrupts. What waits in a list register goes back to the bank, still pending.
    fn disable(&mut self, disabled: u32) {
        self.bank.pending |= self.withdraw_pending(disabled & self.bank.enabled);
        self.bank.enabled &= !disabled;
    }

    fn deactivate(&mut self, inactive: u32) {
        self.bank.active &= !inactive;
        if let Some((listed, registers)) = &mut self.listed {
            for number in bits(inactive) {
                listed.withdraw_active(*registers, self.base + number);
            }
        }
    }

    /// Takes pending interrupts out of the list registers; returns those that were there.
    fn withdraw_pending(&mut self, wanted: u32) -> u32 {
        let Some((listed, registers)) = &mut self.listed else { return 0 };
        bits(wanted)
            .filter(|number| listed.withdraw_pending(*registers, self.base + number))
            .fold(0, |found, number| found | (1 << number))
    }

    /// The interrupts that are (pending, active) in list registers.
    fn listed_bits(&self) -> (u32, u32) {
        let Some((listed, registers)) = &self.listed else { return (0, 0) };
        (0..BANK).fold((0, 0), |(pending, active), number| {
            let (is_pending, is_active) = listed.state(*registers, self.base + number);
            (pending | u32::from(is_pending) << number, active | u32::from(is_active) << number)
        })
    }
}

fn read_priorities(bank: &Bank, first: usize, width: Width) -> u64 {
    let bytes = bank.priority.iter().skip(first).take(width.bytes() as usize);
    bytes.rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Five bits of priority, the upper ones, are implemented.
fn write_priorities(bank: &mut Bank, first: usize, width: Width, value: u64) {
    let bytes = bank.priority.iter_mut().skip(first).take(width.bytes() as usize);
    for (priority, byte) in bytes.zip(value.to_le_bytes()) {
        *priority = byte & 0xF8;
    }
}

/// Two bits each, of which the upper one says "edge".
fn read_config(bank: &Bank, first: u32) -> u32 {
    bits((bank.edge >> first) & 0xFFFF).fold(0, |word, number| word | 2 << (2 * number))
}

/// SGIs stay edge-triggered whatever is written.
fn write_config(bank: &mut Bank, base: u32, first: u32, value: u32) {
    if base == 0 && first == 0 {
        return;
    }
    let edge = (0..16)
        .filter(|number| value & (2 << (2 * number)) != 0)
        .fold(0, |edge, number| edge | 1 << number);
    bank.edge = bank.edge & !(0xFFFF << first) | edge << first;
}
