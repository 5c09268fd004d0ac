//! The virtio network device (virtio 1.2, section 5.1): the bridge's way out of the machine.
//!
//! QEMU's user network neither cuts frames nor sums them up, so the device is asked for nothing
//! of that kind and gets frames as they are on the wire.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use bitflags::bitflags;
use pv_guest_kernel::condition::Condition;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::executor;
use pv_guest_kernel::interrupt::{Line, Trigger};
use pv_guest_kernel::shared::SharedPage;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use super::bridge::PortId;
use super::frame::{Buffer, Checksum, Frame, Head, WHOLE};
use super::switch::{self, Uplink};
use crate::virtio::{self, DeviceError, Span, Virtqueue, bus_address};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Frames in flight in either direction.
const SIZE: u16 = 256;
/// Parts of a frame at most.
const PARTS: u16 = 32;
/// Bytes before each frame, all zero: nothing is to be done with it.
const HEADER: usize = 12;

bitflags! {
    /// Features that this driver uses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Features: u64 {
        /// Descriptors may lie in tables of their own.
        const INDIRECT = 1 << 28;
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

/// The device.
pub(super) struct Nic {
    queues: RefCell<Queues>,
    doorbell: Box<dyn Fn(u16)>,
    /// Whether nothing waits any more.
    drained: Condition,
}

struct Queues {
    receive: Virtqueue,
    transmit: Virtqueue,
    /// By slot: where the device puts a frame.
    receiving: Vec<Option<Buffer>>,
    /// By slot: what the device sends.
    sending: Vec<Option<Buffer>>,
    /// What it will send when it has a slot.
    waiting: VecDeque<Head>,
    header: SharedPage,
    broken: bool,
}

/// Brings up the network device behind a transport, connects it to the bridge and serves it from
/// then on. Says whether there is one.
pub(super) fn start(device: &MmioDevice) -> Result<bool, DeviceError> {
    let Some(mut transport) = virtio::open(device, DeviceType::Network)? else { return Ok(false) };
    virtio::negotiate(&mut transport, Features::INDIRECT | Features::VERSION_1)?;
    let queues = Queues::new()?;
    virtio::set_up_queue(&mut transport, RECEIVE, &queues.receive)?;
    virtio::set_up_queue(&mut transport, TRANSMIT, &queues.transmit)?;
    transport.finish_init();

    let transport = Rc::new(RefCell::new(transport));
    let ringing = transport.clone();
    let doorbell = Box::new(move |queue| ringing.borrow_mut().notify(queue));
    let nic =
        Rc::new(Nic { queues: RefCell::new(queues), doorbell, drained: Condition::default() });
    // QEMU's device tree says "edge" of all its virtio transports. The line is open before the first
    // frame can come: its edge would be the last.
    let line = Line::new(device.intid, Trigger::Edge);
    nic.refill();
    switch::connect_uplink(nic.clone());
    executor::spawn(serve_interrupts(nic, line, transport)).detach();
    Ok(true)
}

/// The device is told first that its interrupt was seen, then what it has received is looked at:
/// what it receives in between interrupts again.
async fn serve_interrupts(
    nic: Rc<Nic>,
    line: Line,
    transport: Rc<RefCell<MmioTransport<'static>>>,
) {
    loop {
        line.wait().await;
        transport.borrow_mut().ack_interrupt();
        let frames = nic.receive();
        nic.refill();
        // Frames from here lie in dom0's own buffers: there is nobody to blame.
        let _ = switch::forward(PortId::UPLINK, frames.into_iter());
        nic.flush();
        line.complete();
    }
}

impl Nic {
    /// Takes what has come.
    fn receive(&self) -> Vec<Frame<'static>> {
        let mut queues = self.queues.borrow_mut();
        core::iter::from_fn(|| queues.next_received()).flatten().collect()
    }

    /// Gives the device empty buffers.
    fn refill(&self) {
        let mut queues = self.queues.borrow_mut();
        queues.fill();
        if queues.receive.publish() {
            (self.doorbell)(RECEIVE);
        }
    }
}

impl Uplink for Nic {
    fn send(&self, frame: &Frame<'_>) {
        if frame.tail.is_empty() && frame.head.length <= WHOLE {
            self.queues.borrow_mut().waiting.push_back(frame.head.clone());
        }
    }

    fn flush(&self) {
        let mut queues = self.queues.borrow_mut();
        queues.send_waiting();
        if !queues.transmit.is_published() && queues.transmit.publish() {
            (self.doorbell)(TRANSMIT);
        }
        if queues.waiting.is_empty() {
            drop(queues);
            self.drained.notify();
        }
    }

    fn is_busy(&self) -> bool {
        !self.queues.borrow().waiting.is_empty()
    }

    fn drained(&self) -> &Condition {
        &self.drained
    }
}

impl Queues {
    fn new() -> Result<Queues, DeviceError> {
        let empty = || core::iter::repeat_with(|| None).take(SIZE.into());
        Ok(Queues {
            receive: Virtqueue::new(SIZE, PARTS)?,
            transmit: Virtqueue::new(SIZE, PARTS)?,
            receiving: empty().collect(),
            sending: vec![None; SIZE.into()],
            waiting: VecDeque::new(),
            header: SharedPage::allocate()?,
            broken: false,
        })
    }

    /// The next thing received, if there is one: a frame, or something that is none.
    fn next_received(&mut self) -> Option<Option<Frame<'static>>> {
        let used = match self.receive.pop() {
            _ if self.broken => return None,
            Ok(used) => used?,
            Err(error) => {
                self.give_up(&error);
                return None;
            }
        };
        let buffer = self.receiving.get_mut(usize::from(used.slot))?.take()?;
        let length = (used.written as usize).saturating_sub(HEADER);
        let head = Head { buffer, offset: HEADER, length };
        Some(Frame::whole(head, Checksum::Unknown))
    }

    fn fill(&mut self) {
        while let Some(slot) = self.receive.next_slot()
            && let Ok(buffer) = Buffer::new()
        {
            let address = bus_address(buffer.page());
            let space = Span { address, length: (HEADER + WHOLE) as u32 };
            self.receive.push([], [space]);
            if let Some(place) = self.receiving.get_mut(usize::from(slot)) {
                *place = Some(buffer);
            }
        }
    }

    /// Gives the device what waits, as far as it has slots. It interrupts only if something is
    /// left; else what it has sent is taken back when there is more to send.
    fn send_waiting(&mut self) {
        self.reap();
        self.fill_slots();
        self.transmit.set_interrupts(!self.waiting.is_empty());
        if !self.waiting.is_empty() {
            // It may have sent something before it heard that we want to know.
            self.reap();
            self.fill_slots();
        }
    }

    fn fill_slots(&mut self) {
        if self.broken {
            self.waiting.clear();
        }
        while let Some(slot) = self.transmit.next_slot()
            && let Some(Head { buffer, offset, length }) = self.waiting.pop_front()
        {
            let header = Span { address: bus_address(&self.header), length: HEADER as u32 };
            let address = bus_address(buffer.page()) + offset as u64;
            self.transmit.push([header, Span { address, length: length as u32 }], []);
            if let Some(place) = self.sending.get_mut(usize::from(slot)) {
                *place = Some(buffer);
            }
        }
    }

    /// Takes back what the device has sent.
    fn reap(&mut self) {
        loop {
            match self.transmit.pop() {
                Ok(Some(used)) => {
                    if let Some(sent) = self.sending.get_mut(usize::from(used.slot)) {
                        *sent = None;
                    }
                }
                Ok(None) => return,
                Err(error) => return self.give_up(&error),
            }
        }
    }

    /// Uses the device no more. Buffers stay with it: it may still write them.
    fn give_up(&mut self, error: &virtio::Broken) {
        if !self.broken {
            log::error!("the network device: {error}; there is no network any more");
        }
        self.broken = true;
    }
}
