//! The ports of the control device, as those see them who speak through them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;

use pv_guest_kernel::condition::Condition;

/// Which of those that connected to a port one after the other is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Epoch(u64);

/// What a port does with its device.
pub(super) trait Device {
    /// Sends as many bytes as there is room for now; returns how many.
    fn send(&self, port: usize, bytes: &[u8]) -> usize;
    /// So many of the portions that a port received were read: the device may bring as many more.
    fn refill(&self, port: usize, count: usize);
}

/// One port of the device. At most one program of the host is connected to it at a time.
pub struct Port {
    index: usize,
    device: Rc<dyn Device>,
    /// Who is connected, if anybody is.
    connected: Cell<Option<Epoch>>,
    /// The last who was.
    last: Cell<Epoch>,
    /// What came and was not read yet. Its source is bounded: the device's buffers.
    received: RefCell<VecDeque<Box<[u8]>>>,
    /// Somebody came or went, there is something to read, or room to write.
    changed: Condition,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Port {
    pub(super) fn new(index: usize, device: Rc<dyn Device>) -> Port {
        Port {
            index,
            device,
            connected: Cell::default(),
            last: Cell::default(),
            received: RefCell::default(),
            changed: Condition::default(),
        }
    }

    /// Its number at the device.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Somebody connected, or went away. Who connects while the ports come up is told of twice.
    pub(super) fn set_connected(&self, connected: bool) {
        if connected == self.connected.get().is_some() {
            return;
        }
        let epoch = Epoch(self.last.get().0.wrapping_add(1));
        self.last.set(epoch);
        self.connected.set(connected.then_some(epoch));
        self.changed.notify();
    }

    /// Bytes came.
    pub(super) fn receive(&self, bytes: Box<[u8]>) {
        self.received.borrow_mut().push_back(bytes);
        self.changed.notify();
    }

    /// There is room to send.
    pub(super) fn has_room(&self) {
        self.changed.notify();
    }

    /// Waits until somebody is connected. What came before is forgotten: it was not said to us.
    pub(super) async fn accept(&self) -> Epoch {
        let epoch = self.changed.until(|| self.connected.get()).await;
        let forgotten = self.received.take();
        self.device.refill(self.index, forgotten.len());
        epoch
    }

    fn is_connected(&self, epoch: Epoch) -> bool {
        self.connected.get() == Some(epoch)
    }

    /// The next bytes; `None` if who sent them has gone.
    pub(super) async fn read(&self, epoch: Epoch) -> Option<Box<[u8]>> {
        let next = || match self.is_connected(epoch) {
            true => self.received.borrow_mut().pop_front().map(Some),
            false => Some(None),
        };
        let bytes = self.changed.until(next).await?;
        self.device.refill(self.index, 1);
        Some(bytes)
    }

    /// Waits for room and sends as many of the bytes as it takes; returns how many. `None` if who
    /// was to receive them has gone.
    pub(super) async fn write(&self, epoch: Epoch, bytes: &[u8]) -> Option<usize> {
        let send = || match self.is_connected(epoch) {
            true => Some(self.device.send(self.index, bytes)).filter(|&count| count > 0).map(Some),
            false => Some(None),
        };
        self.changed.until(send).await
    }
}
