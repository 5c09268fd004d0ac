//! A domain's UART, which Xen calls vpl011: what software uses of a PL011 as the SBSA has it (Arm
//! DEN 0094, "SBSA generic UART"), without a line speed. Its line is the domain's console.

use super::console::Console;

/// UARTDR: characters pass here.
pub const DATA: u64 = 0x00;
/// UARTFR
const FLAGS: u64 = 0x18;
/// UARTIMSC
const MASK: u64 = 0x38;
/// UARTRIS
const RAW: u64 = 0x3C;
/// UARTMIS
const MASKED: u64 = 0x40;
/// UARTICR
const CLEAR: u64 = 0x44;

/// UARTFR: nothing to receive; no room to send; nothing is being sent.
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
const TRANSMIT_EMPTY: u32 = 1 << 7;

/// Interrupts: received, sent, and received some time ago.
const RECEIVE: u32 = 1 << 4;
const TRANSMIT: u32 = 1 << 5;
const RECEIVE_TIMEOUT: u32 = 1 << 6;
/// Characters that software may send at an interrupt without looking: what a FIFO of 32 has.
const FIFO: usize = 32;

/// Its registers.
#[derive(Debug, Clone, Default)]
pub struct Uart {
    /// The interrupts that are let through.
    mask: u32,
    /// Characters were sent since the interrupt about that was cleared.
    sent: bool,
    /// Its interrupt, as the interrupt controller last saw it.
    asserted: bool,
}

impl Uart {
    /// None of its interrupts is let through.
    pub const fn new() -> Uart {
        Uart { mask: 0, sent: false, asserted: false }
    }

    /// Reads a register. One that does not exist reads as zero.
    pub fn read(&self, line: Console, offset: u64) -> u32 {
        match offset {
            DATA => line.take().map_or(0, u32::from),
            FLAGS => flags(line),
            MASK => self.mask,
            RAW => self.raw(line),
            MASKED => self.raw(line) & self.mask,
            _ => 0,
        }
    }

    /// Writes a register. One that does not exist ignores it.
    pub fn write(&mut self, line: Console, offset: u64, value: u32) {
        match offset {
            DATA => {
                line.put(value as u8);
                self.sent = true;
            }
            MASK => self.mask = value,
            CLEAR if value & TRANSMIT != 0 => self.sent = false,
            _ => {}
        }
    }

    /// Whether its interrupt has come since this was asked last.
    pub fn interrupts(&mut self, line: Console) -> bool {
        let now = self.raw(line) & self.mask != 0;
        let before = core::mem::replace(&mut self.asserted, now);
        now && !before
    }

    fn raw(&self, line: Console) -> u32 {
        let received = if line.has_input() { RECEIVE | RECEIVE_TIMEOUT } else { 0 };
        let sent = if self.sent && line.room() >= FIFO { TRANSMIT } else { 0 };
        received | sent
    }
}

fn flags(line: Console) -> u32 {
    let receive = if line.has_input() { 0 } else { RECEIVE_EMPTY };
    receive | if line.room() == 0 { TRANSMIT_FULL } else { TRANSMIT_EMPTY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::console::testing::{console, drain, fill, output, type_in};

    #[test]
    fn characters_pass_in_both_directions() {
        let (mut uart, line) = (Uart::new(), console());
        assert_eq!(uart.read(line, FLAGS), RECEIVE_EMPTY | TRANSMIT_EMPTY);
        uart.write(line, DATA, 0x141);
        assert_eq!(output(line), b"A");
        type_in(line, b'z');
        assert_eq!(uart.read(line, FLAGS), TRANSMIT_EMPTY);
        assert_eq!(uart.read(line, DATA), u32::from(b'z'));
        fill(line);
        assert_eq!(uart.read(line, FLAGS), RECEIVE_EMPTY | TRANSMIT_FULL);
    }

    #[test]
    fn an_interrupt_comes_once_until_its_reason_is_gone() {
        let (mut uart, line) = (Uart::new(), console());
        type_in(line, b'a');
        assert!(!uart.interrupts(line), "masked");
        uart.write(line, MASK, RECEIVE);
        assert!(uart.interrupts(line));
        assert!(!uart.interrupts(line));
        assert_eq!(uart.read(line, MASKED), RECEIVE);
        uart.read(line, DATA);
        assert!(!uart.interrupts(line));
        type_in(line, b'b');
        assert!(uart.interrupts(line));
    }

    #[test]
    fn what_was_sent_interrupts_until_it_is_cleared_and_only_with_room_for_more() {
        let (mut uart, line) = (Uart::new(), console());
        fill(line);
        uart.write(line, MASK, TRANSMIT);
        uart.write(line, DATA, 1);
        assert!(!uart.interrupts(line));
        drain(line);
        assert!(uart.interrupts(line));
        uart.write(line, CLEAR, TRANSMIT);
        assert_eq!(uart.read(line, RAW), 0);
    }
}
