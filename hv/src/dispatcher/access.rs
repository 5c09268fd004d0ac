//! What an instruction does that was trapped because of the address that it names.

use crate::interpreter::Width;

/// A load or store, as the syndrome of a data abort describes it (Arm ARM D24.2.40, ISV = 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) width: Width,
    /// The general register that receives or gives the value.
    pub(super) register: usize,
    pub(super) is_write: bool,
    sign_extend: bool,
    /// Whether the register is 64 bits wide, which matters to a sign.
    register_is_64_bits: bool,
}

impl Access {
    /// `None` if the instruction is one that the syndrome does not describe (pairs, write-back).
    #[inline(always)]
    pub(super) fn decode(iss: u64) -> Option<Access> {
        const VALID: u64 = 1 << 24;
        if iss & VALID == 0 {
            return None;
        }
        let width = match (iss >> 22) & 0b11 {
            0 => Width::Byte,
            1 => Width::HalfWord,
            2 => Width::Word,
            _ => Width::DoubleWord,
        };
        Some(Access {
            width,
            register: ((iss >> 16) & 0x1F) as usize,
            is_write: iss & (1 << 6) != 0,
            sign_extend: iss & (1 << 21) != 0,
            register_is_64_bits: iss & (1 << 15) != 0,
        })
    }

    /// What the register holds after a load of `value`.
    #[inline(always)]
    pub(super) fn extend(self, value: u64) -> u64 {
        let value = self.width.truncate(value);
        let sign = 1 << (8 * self.width.bytes() - 1);
        if !self.sign_extend || value & sign == 0 {
            return value;
        }
        let extended = value | !(sign | (sign - 1));
        if self.register_is_64_bits { extended } else { extended & 0xFFFF_FFFF }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_byte_load_extends_to_its_register() {
        // LDRSB w3, [x0]
        let access = Access::decode(1 << 24 | 1 << 21 | 3 << 16).expect("the syndrome is valid");
        assert_eq!((access.register, access.is_write), (3, false));
        assert_eq!(access.extend(0x180), 0xFFFF_FF80);
        let wide = Access { register_is_64_bits: true, ..access };
        assert_eq!(wide.extend(0x80), 0xFFFF_FFFF_FFFF_FF80);
    }

    #[test]
    fn a_load_pair_is_not_described() {
        assert_eq!(Access::decode(1 << 6), None);
    }
}
