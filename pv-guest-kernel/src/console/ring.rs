//! The frontend of the console ring (public/io/console.h).

use core::fmt::Write;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use core::time::Duration;

use abi::Port;
use abi::console::{INPUT_SIZE, OUTPUT_SIZE, Ring};

use crate::hypercall::event_channel;
use crate::shared::SharedPage;
use crate::{hypercall, time};

/// How long output waits for a backend that takes nothing.
const PATIENCE: Duration = Duration::from_millis(200);

/// A console ring and its event channel.
#[derive(Debug)]
pub(super) struct RingConsole {
    ring: ConsoleRing,
    /// Tells the backend.
    port: Port,
    /// Bytes that nobody took in time.
    lost: usize,
}

impl RingConsole {
    pub(super) fn new(page: SharedPage, port: Port) -> RingConsole {
        RingConsole { ring: ConsoleRing(page), port, lost: 0 }
    }

    /// A backend that is gone need not be told.
    fn notify(&self) {
        let _ = event_channel::send(self.port);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.report_loss();
        let mut rest = bytes;
        while let Some(left) = rest.get(self.push(rest)..).filter(|left| !left.is_empty()) {
            rest = left;
            // A backend that has just failed to answer is not waited for again.
            if self.lost > 0 || !wait_until(|| self.ring.room() > 0) {
                self.lost = self.lost.saturating_add(rest.len());
                return;
            }
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> usize {
        let count = self.ring.read(buffer);
        if count > 0 {
            self.notify();
        }
        count
    }

    pub(super) fn flush(&self) {
        if self.lost == 0 {
            wait_until(|| self.ring.room() == OUTPUT_SIZE);
        }
    }

    fn push(&self, bytes: &[u8]) -> usize {
        let count = self.ring.write(bytes);
        if count > 0 {
            self.notify();
        }
        count
    }

    /// As soon as it fits, says how much is missing at this place.
    fn report_loss(&mut self) {
        let mut note = heapless::String::<48>::new();
        if self.lost == 0 || write!(note, "\r\n[{} bytes lost]\r\n", self.lost).is_err() {
            return;
        }
        if self.ring.room() >= note.len() {
            self.push(note.as_bytes());
            self.lost = 0;
        }
    }
}

/// Lets other vCPUs run until `done`, or patience is at its end. Whether it was done.
fn wait_until(done: impl Fn() -> bool) -> bool {
    let deadline = time::now() + PATIENCE;
    while !done() {
        if time::now() >= deadline {
            return false;
        }
        hypercall::sched::yield_now();
    }
    true
}

/// The two byte streams in the page. Indices are the peer's too: they are checked before use.
#[derive(Debug)]
struct ConsoleRing(SharedPage);

impl ConsoleRing {
    fn index(&self, offset: usize) -> u32 {
        self.0.load_u32(offset, Ordering::Acquire)
    }

    /// Bytes of output that fit now. None if the backend's index makes no sense.
    fn room(&self) -> usize {
        let consumer = self.index(offset_of!(Ring, output_consumer));
        let used = self.index(offset_of!(Ring, output_producer)).wrapping_sub(consumer) as usize;
        OUTPUT_SIZE.saturating_sub(used)
    }

    /// Returns how many bytes were taken.
    fn write(&self, bytes: &[u8]) -> usize {
        let producer = self.index(offset_of!(Ring, output_producer));
        let count = bytes.len().min(self.room());
        let start = producer as usize % OUTPUT_SIZE;
        let (first, second) = bytes[..count].split_at(count.min(OUTPUT_SIZE - start));
        self.0.write_bytes(offset_of!(Ring, output) + start, first);
        self.0.write_bytes(offset_of!(Ring, output), second);
        let place = offset_of!(Ring, output_producer);
        self.0.store_u32(place, producer.wrapping_add(count as u32), Ordering::Release);
        count
    }

    /// Returns how many bytes there were; none if the backend's index makes no sense.
    fn read(&self, buffer: &mut [u8]) -> usize {
        let consumer = self.index(offset_of!(Ring, input_consumer));
        let producer = self.index(offset_of!(Ring, input_producer));
        let available = producer.wrapping_sub(consumer) as usize;
        if available > INPUT_SIZE {
            return 0;
        }
        let count = buffer.len().min(available);
        let start = consumer as usize % INPUT_SIZE;
        let (first, second) = buffer[..count].split_at_mut(count.min(INPUT_SIZE - start));
        self.0.read_bytes(offset_of!(Ring, input) + start, first);
        self.0.read_bytes(offset_of!(Ring, input), second);
        let place = offset_of!(Ring, input_consumer);
        self.0.store_u32(place, consumer.wrapping_add(count as u32), Ordering::Release);
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Channel;

    /// What a backend does, byte by byte.
    fn drain(page: &SharedPage, limit: usize) -> Vec<u8> {
        let producer = page.load_u32(offset_of!(Ring, output_producer), Ordering::Relaxed);
        let mut consumer = page.load_u32(offset_of!(Ring, output_consumer), Ordering::Relaxed);
        let mut bytes = Vec::new();
        while consumer != producer && bytes.len() < limit {
            let offset = offset_of!(Ring, output) + consumer as usize % OUTPUT_SIZE;
            bytes.push(page.load_u8(offset, Ordering::Relaxed));
            consumer = consumer.wrapping_add(1);
        }
        page.store_u32(offset_of!(Ring, output_consumer), consumer, Ordering::Relaxed);
        bytes
    }

    fn type_in(page: &SharedPage, bytes: &[u8]) {
        let mut producer = page.load_u32(offset_of!(Ring, input_producer), Ordering::Relaxed);
        for &byte in bytes {
            let offset = offset_of!(Ring, input) + producer as usize % INPUT_SIZE;
            page.store_u8(offset, byte, Ordering::Relaxed);
            producer = producer.wrapping_add(1);
        }
        page.store_u32(offset_of!(Ring, input_producer), producer, Ordering::Relaxed);
    }

    proptest! {
        #[test]
        fn output_arrives_whole_and_in_order(
            start in any::<u32>(),
            chunks in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..3000), 0usize..3000), 1..20),
        ) {
            let page = SharedPage::allocate().unwrap();
            page.store_u32(offset_of!(Ring, output_producer), start, Ordering::Relaxed);
            page.store_u32(offset_of!(Ring, output_consumer), start, Ordering::Relaxed);
            let ring = ConsoleRing(page.clone());
            let (mut sent, mut received) = (Vec::new(), Vec::new());
            for (bytes, limit) in chunks {
                let room = ring.room();
                let count = ring.write(&bytes);
                prop_assert_eq!(count, bytes.len().min(room));
                sent.extend_from_slice(&bytes[..count]);
                received.extend(drain(&page, limit));
            }
            received.extend(drain(&page, usize::MAX));
            prop_assert_eq!(sent, received);
            prop_assert_eq!(ring.room(), OUTPUT_SIZE);
        }

        #[test]
        fn input_arrives_whole_and_in_order(
            start in any::<u32>(),
            chunks in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..512), 1usize..2000), 1..20),
        ) {
            let page = SharedPage::allocate().unwrap();
            page.store_u32(offset_of!(Ring, input_producer), start, Ordering::Relaxed);
            page.store_u32(offset_of!(Ring, input_consumer), start, Ordering::Relaxed);
            let ring = ConsoleRing(page.clone());
            for (bytes, size) in chunks {
                type_in(&page, &bytes);
                let mut buffer = vec![0; size];
                let mut received = Vec::new();
                while received.len() < bytes.len() {
                    let count = ring.read(&mut buffer);
                    prop_assert!(count > 0);
                    received.extend_from_slice(&buffer[..count]);
                }
                prop_assert_eq!(received, bytes);
            }
        }

        #[test]
        fn wild_indices_move_no_bytes(consumer in any::<u32>(), producer in any::<u32>()) {
            let page = SharedPage::allocate().unwrap();
            page.store_u32(offset_of!(Ring, input_producer), producer, Ordering::Relaxed);
            page.store_u32(offset_of!(Ring, input_consumer), consumer, Ordering::Relaxed);
            page.store_u32(offset_of!(Ring, output_producer), producer, Ordering::Relaxed);
            page.store_u32(offset_of!(Ring, output_consumer), consumer, Ordering::Relaxed);
            let ring = ConsoleRing(page);
            let distance = producer.wrapping_sub(consumer) as usize;
            prop_assert!(ring.read(&mut [0; 2000]) <= INPUT_SIZE);
            prop_assert_eq!(ring.room(), OUTPUT_SIZE.saturating_sub(distance));
        }
    }

    #[test]
    fn a_backend_that_takes_nothing_costs_patience_once_and_the_loss_is_told() {
        let (ours, _theirs) = Channel::loopback().unwrap();
        let page = SharedPage::allocate().unwrap();
        let mut console = RingConsole::new(page.clone(), ours.port());
        let start = time::now();
        console.write(&[b'x'; OUTPUT_SIZE + 10]);
        console.write(&[b'y'; 5]);
        let waited = time::now() - start;
        assert!(waited >= PATIENCE && waited < 2 * PATIENCE, "{waited:?}");
        assert_eq!(drain(&page, usize::MAX), [b'x'; OUTPUT_SIZE]);
        console.write(b"z");
        assert_eq!(drain(&page, usize::MAX), b"\r\n[15 bytes lost]\r\nz");
    }
}
