//! The guest's end of a domain's console ring (public/io/console.h), for what the domain does with
//! its UART: the monitor moves the characters that a driver of the ring would.
//!
//! The page is the domain's, and dom0 has it mapped: indices that make no sense mean that there is
//! no room and no input.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::console::{INPUT_SIZE, OUTPUT_SIZE, Ring};
use abi::hvm::Index;
use abi::{DomId, Gfn, Port};

use super::Monitor;
use super::stage2::LeafKind;
use crate::machine::memory::RamFrame;

/// The ring of a domain.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    page: RamFrame,
    port: Port,
}

impl Console {
    /// A domain's, if it has one.
    pub fn of(monitor: &Monitor, domain: DomId) -> Option<Console> {
        let domain = monitor.domains.get(domain)?;
        let gfn = Gfn(domain.parameters.get(Index::ConsolePfn));
        let port = Port(u32::try_from(domain.parameters.get(Index::ConsoleEvtchn)).ok()?);
        let leaf = domain.stage2.lookup(gfn).filter(|leaf| leaf.kind == LeafKind::Ram)?;
        Some(Console { page: monitor.frames.ram(leaf.mfn)?, port })
    }

    /// Tells dom0 that the ring has changed.
    pub fn notify(self, monitor: &mut Monitor, domain: DomId) {
        // Without a peer nobody needs to know.
        let _ = monitor.event_send(domain, self.port);
    }

    /// How many characters the ring takes now.
    pub fn room(self) -> usize {
        let used = self.word(offset_of!(Ring, output_producer)).load(Ordering::Relaxed);
        let used =
            used.wrapping_sub(self.word(offset_of!(Ring, output_consumer)).load(Ordering::Acquire));
        OUTPUT_SIZE.saturating_sub(used as usize)
    }

    /// Puts a character into the ring, if there is room.
    pub fn put(self, byte: u8) {
        if self.room() == 0 {
            return;
        }
        let producer = self.word(offset_of!(Ring, output_producer));
        let at = producer.load(Ordering::Relaxed);
        let place = offset_of!(Ring, output) + at as usize % OUTPUT_SIZE;
        self.page.u8(place).store(byte, Ordering::Relaxed);
        producer.store(at.wrapping_add(1), Ordering::Release);
    }

    /// Whether a character has come.
    pub fn has_input(self) -> bool {
        let consumer = self.word(offset_of!(Ring, input_consumer)).load(Ordering::Relaxed);
        let producer = self.word(offset_of!(Ring, input_producer)).load(Ordering::Acquire);
        (1..=INPUT_SIZE).contains(&(producer.wrapping_sub(consumer) as usize))
    }

    /// Takes a character that has come.
    pub fn take(self) -> Option<u8> {
        if !self.has_input() {
            return None;
        }
        let consumer = self.word(offset_of!(Ring, input_consumer));
        let at = consumer.load(Ordering::Relaxed);
        let byte = self.page.u8(at as usize % INPUT_SIZE).load(Ordering::Relaxed);
        consumer.store(at.wrapping_add(1), Ordering::Release);
        Some(byte)
    }

    fn word(&self, offset: usize) -> &'static AtomicU32 {
        self.page.u32(offset)
    }
}

const _: () = assert!(offset_of!(Ring, input) == 0);

#[cfg(test)]
pub(super) mod testing;

#[cfg(test)]
mod tests {
    use super::testing::{console, output, type_in};
    use super::*;

    #[test]
    fn characters_go_through_the_ring_until_it_is_full() {
        let console = console();
        assert_eq!((console.room(), console.has_input()), (OUTPUT_SIZE, false));
        for number in 0..OUTPUT_SIZE + 10 {
            console.put(number as u8);
        }
        assert_eq!(console.room(), 0);
        let output = output(console);
        assert_eq!((output[0], output[300]), (0, 44));
        let producer = console.word(offset_of!(Ring, output_producer)).load(Ordering::Relaxed);
        assert_eq!(producer as usize, OUTPUT_SIZE);
    }

    #[test]
    fn input_is_taken_once_and_nonsense_is_none() {
        let console = console();
        let produced = console.word(offset_of!(Ring, input_producer));
        type_in(console, b'x');
        assert_eq!((console.take(), console.take()), (Some(b'x'), None));
        produced.store(u32::MAX, Ordering::Relaxed);
        assert_eq!((console.has_input(), console.take()), (false, None));
        console.word(offset_of!(Ring, output_producer)).store(1 << 20, Ordering::Relaxed);
        assert_eq!(console.room(), 0);
    }
}
