//! Where the toolstack places things in an unprivileged domain's guest-physical space.
//!
//! Same as Xen's (public/arch-arm.h, "GUEST_*"), but not ABI: a guest reads its device tree.

use crate::Gfn;

/// Interrupt distributor, 64 KiB.
pub const GICD_BASE: u64 = 0x0300_1000;
/// Bytes of the distributor.
pub const GICD_SIZE: u64 = 0x1_0000;
/// Redistributors, 128 KiB for each vCPU.
pub const GICR_BASE: u64 = 0x0302_0000;
/// Bytes of all redistributors.
pub const GICR_SIZE: u64 = 0x100_0000;
/// The UART (Xen's vpl011), and its interrupt.
pub const UART_BASE: u64 = 0x2200_0000;
/// Bytes of the UART.
pub const UART_SIZE: u64 = 0x1000;
/// Its interrupt, an SPI.
pub const UART_INTID: u32 = 32;
/// Window of the grant table.
pub const GRANT_TABLE_BASE: u64 = 0x3800_0000;
/// Its bytes.
pub const GRANT_TABLE_SIZE: u64 = 0x100_0000;
/// Ring page of the console.
pub const CONSOLE_FRAME: Gfn = Gfn(0x39000);
/// Ring page of the store.
pub const STORE_FRAME: Gfn = Gfn(0x39001);
/// First bank of RAM.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Its greatest size: 3 GiB.
pub const RAM_MAX_SIZE: u64 = 0xC000_0000;
