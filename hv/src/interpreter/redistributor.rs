//! The redistributors' registers (GICR, Arm IHI 0069, 12.11): for each vCPU a frame that describes
//! it and a frame with its SGIs and PPIs.

use super::Width;
use super::bank::{BankView, Register, decode};
use super::distributor::PIDR2_VALUE;
use crate::allocator::interrupt::{Bank, ListRegisters, Listed};

/// Bytes of each vCPU's two frames.
pub const STRIDE: u64 = 0x2_0000;
/// Offset of the second frame.
const SGI_FRAME: u64 = 0x1_0000;

/// GICR_CTLR
const CTLR: u64 = 0x0;
/// GICR_IIDR
const IIDR: u64 = 0x4;
/// GICR_TYPER, 64 bits.
const TYPER: u64 = 0x8;
const TYPER_UPPER: u64 = 0xC;
/// GICR_WAKER
const WAKER: u64 = 0x14;
/// GICR_PIDR2
const PIDR2: u64 = 0xFFE8;

const IIDR_VALUE: u64 = 0x43B;
/// GICR_TYPER.Last: no redistributor follows.
const TYPER_LAST: u64 = 1 << 4;

/// Whose redistributor is accessed.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The vCPU's number, which is also its affinity.
    pub vcpu: u32,
    /// Whether it is the domain's last.
    pub last: bool,
}

/// Reads a register; `offset` counts from the vCPU's first frame.
pub fn read<L: ListRegisters>(
    identity: Identity,
    bank: &mut Bank,
    listed: Option<(&Listed, &mut L)>,
    offset: u64,
    width: Width,
) -> u64 {
    match offset {
        CTLR | WAKER => 0,
        IIDR => IIDR_VALUE,
        TYPER => width.truncate(typer(identity)),
        TYPER_UPPER => typer(identity) >> 32,
        PIDR2 => PIDR2_VALUE,
        _ => match private_register(offset) {
            Some(register) => BankView { bank, base: 0, listed }.read(register, width),
            None => 0,
        },
    }
}

/// Writes a register.
pub fn write<L: ListRegisters>(
    bank: &mut Bank,
    listed: Option<(&Listed, &mut L)>,
    offset: u64,
    width: Width,
    value: u64,
) {
    if let Some(register) = private_register(offset) {
        BankView { bank, base: 0, listed }.write(register, width, value);
    }
}

/// Affinity in the upper half, the vCPU's number in bits 8 and on.
fn typer(identity: Identity) -> u64 {
    let number = u64::from(identity.vcpu);
    number << 32 | number << 8 | if identity.last { TYPER_LAST } else { 0 }
}

fn private_register(offset: u64) -> Option<Register> {
    match decode(offset.checked_sub(SGI_FRAME)?)? {
        (0, register) => Some(register),
        _ => None,
    }
}
