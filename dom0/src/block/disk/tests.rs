//! Transfers in flight: who keeps memory, who is woken, how often the device is rung.

use alloc::rc::Rc;
use core::cell::Cell;
use core::pin::pin;

use futures_util::future::{FutureExt, join_all};

use super::*;
use crate::block::queue::tests::FakeDevice;

struct Bench {
    disk: Disk,
    device: FakeDevice,
    rings: Rc<Cell<u32>>,
}

impl Bench {
    fn new() -> Bench {
        let info = Info {
            name: "disk0".into(),
            bytes: 4096,
            read_only: false,
            flush: true,
            discard: None,
        };
        let queue = Queue::new().unwrap();
        let device = FakeDevice::new(&queue, &[], 8);
        let rings = Rc::new(Cell::new(0));
        let ringing = rings.clone();
        let doorbell = Box::new(move || ringing.set(ringing.get() + 1));
        Bench { disk: Disk::new(info, queue, doorbell), device, rings }
    }

    /// Lets the publisher run as far as it can.
    fn publish(&self) {
        assert!(self.disk.publish().now_or_never().is_none());
    }
}

/// A flush that owns `memory`.
async fn flush(disk: &Disk, memory: impl Any) -> Result<(), IoError> {
    disk.transfer(Operation::Flush, 0, &[], memory).await
}

#[test]
fn a_transfer_ends_when_the_device_is_done() {
    let mut bench = Bench::new();
    let mut transfer = pin!(flush(&bench.disk, ()));
    assert_eq!(transfer.as_mut().now_or_never(), None);
    bench.publish();
    assert_eq!(bench.device.look(), 1);
    bench.disk.collect();
    assert_eq!(transfer.as_mut().now_or_never(), None);
    bench.device.finish(0);
    bench.disk.collect();
    assert_eq!(transfer.now_or_never(), Some(Ok(())));
}

#[test]
fn memory_outlives_a_waiter_that_gives_up() {
    let mut bench = Bench::new();
    let memory = Rc::new(());
    assert_eq!(flush(&bench.disk, memory.clone()).now_or_never(), None);
    assert_eq!(Rc::strong_count(&memory), 2, "the device may still write it");
    bench.publish();
    bench.device.look();
    bench.device.finish(0);
    assert_eq!(Rc::strong_count(&memory), 2);
    bench.disk.collect();
    assert_eq!(Rc::strong_count(&memory), 1);
}

#[test]
fn memory_of_a_transfer_that_never_started_goes_with_its_waiter() {
    let bench = Bench::new();
    for _ in 0..SIZE {
        assert_eq!(flush(&bench.disk, ()).now_or_never(), None);
    }
    let memory = Rc::new(());
    assert_eq!(flush(&bench.disk, memory.clone()).now_or_never(), None);
    assert_eq!(Rc::strong_count(&memory), 1);
}

#[test]
fn what_starts_together_is_published_with_one_ring() {
    let mut bench = Bench::new();
    let mut transfers = pin!(join_all((0..10).map(|_| flush(&bench.disk, ()))));
    assert!(transfers.as_mut().now_or_never().is_none());
    bench.publish();
    assert_eq!((bench.device.look(), bench.rings.get()), (10, 1));
    bench.publish();
    assert_eq!(bench.rings.get(), 1);
}

#[test]
fn more_transfers_than_slots_wait_their_turn() {
    let mut bench = Bench::new();
    let count = usize::from(SIZE) * 3;
    let mut transfers = pin!(join_all((0..count).map(|_| flush(&bench.disk, ()))));
    let mut rounds = 0;
    let results = loop {
        if let Some(results) = transfers.as_mut().now_or_never() {
            break results;
        }
        bench.publish();
        assert!(bench.device.look() <= usize::from(SIZE));
        bench.device.finish(0);
        bench.disk.collect();
        rounds += 1;
    };
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((results.len(), rounds), (count, count));
}

#[test]
fn a_broken_device_fails_all_transfers_and_keeps_their_memory() {
    let mut bench = Bench::new();
    let memory = Rc::new(());
    let started = (0..SIZE).map(|_| flush(&bench.disk, memory.clone()));
    let mut started = pin!(join_all(started));
    assert!(started.as_mut().now_or_never().is_none());
    let mut waiting = pin!(flush(&bench.disk, ()));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    bench.publish();
    bench.device.answer(u32::MAX);
    bench.disk.collect();
    let results = started.as_mut().now_or_never().unwrap();
    assert!(results.iter().all(|result| *result == Err(IoError::Broken)));
    assert_eq!(Rc::strong_count(&memory), usize::from(SIZE) + 1);
    assert_eq!(waiting.now_or_never(), Some(Err(IoError::Broken)));
    assert_eq!(flush(&bench.disk, ()).now_or_never(), Some(Err(IoError::Broken)));
}

#[test]
fn a_disk_is_settled_when_all_that_was_begun_is_done() {
    let mut bench = Bench::new();
    // Nobody waits for it any more.
    assert_eq!(flush(&bench.disk, ()).now_or_never(), None);
    let mut settled = pin!(bench.disk.settled());
    assert_eq!(settled.as_mut().now_or_never(), None);
    // What comes later does not hold it up.
    let mut later = pin!(flush(&bench.disk, ()));
    assert_eq!(later.as_mut().now_or_never(), None);
    bench.publish();
    assert_eq!(bench.device.look(), 2);
    bench.device.finish(0);
    bench.disk.collect();
    assert_eq!(settled.now_or_never(), Some(()));
    assert_eq!(later.as_mut().now_or_never(), None);
    assert_eq!(bench.disk.settled().now_or_never(), None);
}
