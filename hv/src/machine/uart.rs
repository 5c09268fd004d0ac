//! The console: the machine's PL011, its received characters, and the log's text.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_pl011_uart::{
    DataBits, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer,
};

use super::lock::{Level, Lock};
use super::text_ring::TextRing;

/// How much of its log the monitor remembers, in bytes.
const LOG_SIZE: usize = 64 * 1024;
/// How many received characters wait for dom0.
const INPUT_SIZE: usize = 256;

const BAUD_RATE: u32 = 115_200;
/// The reference clock of QEMU's and of most boards' PL011, in hertz.
const CLOCK: u32 = 24_000_000;

/// What the lock of the console protects.
pub(super) struct Console {
    uart: Option<Uart<'static>>,
    input: heapless::Deque<u8, INPUT_SIZE>,
    pub(super) ring: TextRing<LOG_SIZE>,
}

pub(super) static CONSOLE: Lock<Console> = Lock::new(
    Level::Console,
    Console { uart: None, input: heapless::Deque::new(), ring: TextRing::new() },
);

/// Where the UART is, for the panic handler, which takes no locks. Zero: nowhere yet.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Makes the UART at that address the console.
///
/// # Safety
/// It must be a PL011, mapped as device memory (or the MMU off), and used by nothing else.
pub unsafe fn init(address: u64) {
    // SAFETY: as the caller says.
    let Some(mut uart) = (unsafe { at(address) }) else { return };
    let line =
        LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
    // The only failure is a rate that the clock cannot give, which these constants exclude.
    let _ = uart.enable(line, BAUD_RATE, CLOCK);
    uart.set_interrupt_masks(Interrupts::RXI | Interrupts::RTI);
    ADDRESS.store(address, Ordering::Relaxed);
    CONSOLE.lock().uart = Some(uart);
}

/// # Safety
/// As for `init`.
unsafe fn at(address: u64) -> Option<Uart<'static>> {
    let registers: *mut PL011Registers = core::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as the caller says.
    NonNull::new(registers).map(|registers| Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
}

/// Writes bytes to the UART as they are.
pub fn console_write(bytes: &[u8]) {
    if let Some(uart) = CONSOLE.lock().uart.as_mut() {
        send(uart, bytes);
    }
}

/// Takes received characters. Returns how many there were.
pub fn console_read(into: &mut [u8]) -> usize {
    CONSOLE.lock().read(into)
}

/// Handles the UART's interrupt. Returns whether characters wait for `console_read`.
pub fn receive() -> bool {
    let mut console = CONSOLE.lock();
    console.receive();
    !console.input.is_empty()
}

impl Console {
    /// Looks at the UART first: what is taken from it raises no interrupt any more, so a reader
    /// that were told of nothing would wait for one in vain.
    fn read(&mut self, into: &mut [u8]) -> usize {
        self.receive();
        let mut count = 0;
        for slot in into.iter_mut() {
            let Some(byte) = self.input.pop_front() else { break };
            *slot = byte;
            count += 1;
        }
        self.listen();
        count
    }

    /// Takes what the UART has, as long as there is room.
    fn receive(&mut self) {
        let Some(uart) = self.uart.as_mut() else { return };
        while !self.input.is_full() && !uart.is_rx_fifo_empty() {
            if let Ok(Some(byte)) = uart.read_word() {
                // There is room: the loop's condition.
                let _ = self.input.push_back(byte);
            }
        }
        self.listen();
    }

    /// Has the UART interrupt for characters, unless there is no room: it keeps them then, until a
    /// reader has made some. Nothing is lost, and nothing storms.
    fn listen(&mut self) {
        let Some(uart) = self.uart.as_mut() else { return };
        uart.set_interrupt_masks(match self.input.is_full() {
            true => Interrupts::empty(),
            false => Interrupts::RXI | Interrupts::RTI,
        });
    }
}

/// The log's way out: into the ring and, with line ends as terminals want them, to the UART.
impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.ring.write(text.as_bytes());
        if let Some(uart) = self.uart.as_mut() {
            send_text(uart, text);
        }
        Ok(())
    }
}

fn send(uart: &mut Uart<'_>, bytes: &[u8]) {
    for &byte in bytes {
        while uart.is_tx_fifo_full() {
            core::hint::spin_loop();
        }
        uart.write_word(byte);
    }
}

fn send_text(uart: &mut Uart<'_>, text: &str) {
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                send(uart, line.as_bytes());
                send(uart, b"\r\n");
            }
            None => send(uart, line.as_bytes()),
        }
    }
}

/// A way out that takes no lock, for the panic handler.
#[cfg(target_os = "none")]
pub(super) struct Emergency(Option<Uart<'static>>);

#[cfg(target_os = "none")]
impl Emergency {
    /// The console's UART, whoever may be using it: the machine is about to stop.
    pub(super) fn new() -> Emergency {
        // SAFETY: `init` was promised a PL011 at the address that it stored; an aliasing user is
        // another CPU in the middle of a character, whose text may mix with ours.
        unsafe { Emergency::at(ADDRESS.load(Ordering::Relaxed)) }
    }

    /// The UART at an address; nothing is written if that is zero.
    ///
    /// # Safety
    /// There must be a PL011 there, or the address zero.
    pub(super) unsafe fn at(address: u64) -> Emergency {
        // SAFETY: as the caller says.
        Emergency(unsafe { at(address) })
    }
}

#[cfg(target_os = "none")]
impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(uart) = self.0.as_mut() {
            send_text(uart, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: usize = 0x00;
    const FLAGS: usize = 0x18;
    const INTERRUPT_MASK: usize = 0x38;
    const RECEIVE_EMPTY: u32 = 1 << 4;

    /// Registers in memory: a UART that always has the same character, or none.
    #[repr(C, align(4096))]
    struct Registers([u32; 1024]);

    fn console(registers: &mut Registers) -> Console {
        let address = core::ptr::from_mut(registers).expose_provenance() as u64;
        // SAFETY: memory of that size and alignment, which the test keeps and only looks at.
        let uart = unsafe { at(address) };
        Console { uart, input: heapless::Deque::new(), ring: TextRing::new() }
    }

    #[test]
    fn a_reader_gets_what_the_uart_still_has() {
        let mut registers = Box::new(Registers([0; 1024]));
        registers.0[DATA / 4] = u32::from(b'x');
        let mut console = console(&mut registers);
        let mut text = [0; 4];
        assert_eq!((console.read(&mut text), &text), (4, b"xxxx"));
    }

    #[test]
    fn a_full_buffer_silences_the_uart_until_it_is_read() {
        let mut registers = Box::new(Registers([0; 1024]));
        let mut console = console(&mut registers);
        console.receive();
        assert_eq!((console.input.len(), registers.0[INTERRUPT_MASK / 4]), (INPUT_SIZE, 0));
        registers.0[FLAGS / 4] = RECEIVE_EMPTY;
        assert_eq!(console.read(&mut [0; 1]), 1);
        assert_ne!(registers.0[INTERRUPT_MASK / 4], 0);
    }
}
