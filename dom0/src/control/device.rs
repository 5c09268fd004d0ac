//! The virtio console device (virtio 1.2, section 5.3), of which only the ports with a number of
//! their own are used: unlike port 0 they say when somebody connects, and lose nothing when that
//! somebody is slow.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::PAGE_SIZE;
use abi::control::CHANNELS;
use bitflags::bitflags;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::executor;
use pv_guest_kernel::interrupt::{Line, Trigger};
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use super::ports::{self, Port};
use crate::virtio::{self, DeviceError, Span, Used, Virtqueue, bus_address};

/// Index among the ports of the pair of queues for messages about ports.
const CONTROL: usize = 0;
/// Buffers of a page each, in either direction of a port. For each port the device sends three
/// messages at the start, and one whenever somebody comes or goes.
const BUFFERS: u16 = 16;

bitflags! {
    /// Features that this driver uses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Features: u64 {
        /// There are several ports, and messages about them.
        const MULTIPORT = 1 << 1;
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

abi::numbers! {
    /// What a message about a port says (`VIRTIO_CONSOLE_*`).
    enum Event: u16 {
        /// To the device: the driver works.
        DeviceReady = 0,
        /// There is such a port.
        DeviceAdd = 1,
        /// To the device: the driver will use it.
        PortReady = 3,
        /// Somebody has opened or closed its other side; to the device, this side.
        PortOpen = 6,
    }
}

/// The size of a message.
const MESSAGE: usize = 8;
const OPEN: u16 = 1;

/// The device, whose ports and channels have the same numbers: port n+1 is channel n.
struct Console {
    transport: RefCell<MmioTransport<'static>>,
    /// The control messages', then each port's.
    pairs: RefCell<Vec<Pair>>,
}

/// Two queues: from the device and to it.
struct Pair {
    receive: Buffers,
    send: Buffers,
}

/// A queue and a page for each of its slots.
struct Buffers {
    queue: Virtqueue,
    pages: Vec<SharedPage>,
    index: u16,
}

/// Brings up the ports of the device behind a transport and serves it from then on. `None` if
/// there is another device, or none.
pub(super) fn start(device: &MmioDevice) -> Result<Option<Vec<Rc<Port>>>, DeviceError> {
    let Some(mut transport) = virtio::open(device, DeviceType::Console)? else { return Ok(None) };
    let features = Features::MULTIPORT | Features::VERSION_1;
    virtio::negotiate(&mut transport, features)?;
    // Queues 0 and 1 are those of port 0; then come the control messages', then port 1's.
    let pairs = (0..=CHANNELS as u16).map(|number| Pair::new(2 + 2 * number));
    let mut pairs: Vec<Pair> = pairs.collect::<Result<_, _>>()?;
    for pair in &mut pairs {
        for buffers in [&pair.receive, &pair.send] {
            virtio::set_up_queue(&mut transport, buffers.index, &buffers.queue)?;
        }
        pair.receive.give(BUFFERS.into());
    }
    // QEMU's device tree says "edge" of all its virtio transports. The device interrupts as soon as
    // it may, and that edge would be lost if nobody waited for it yet.
    let line = Line::new(device.intid, Trigger::Edge);
    transport.finish_init();

    let console =
        Rc::new(Console { transport: RefCell::new(transport), pairs: RefCell::new(pairs) });
    let port = |index| Rc::new(Port::new(index, console.clone()));
    let ports: Vec<Rc<Port>> = (1..=CHANNELS).map(port).collect();
    for index in 0..=CHANNELS {
        console.publish(index);
    }
    console.tell(0, Event::DeviceReady);
    executor::spawn(serve_interrupts(console, ports.clone(), line)).detach();
    Ok(Some(ports))
}

/// Control messages come first: what a port brings was sent by whom they announced.
async fn serve_interrupts(console: Rc<Console>, ports: Vec<Rc<Port>>, line: Line) {
    loop {
        line.wait().await;
        console.transport.borrow_mut().ack_interrupt();
        for message in console.receive(CONTROL) {
            console.obey(&message, &ports);
            ports::Device::refill(&*console, CONTROL, 1);
        }
        for port in &ports {
            for bytes in console.receive(port.index()) {
                port.receive(bytes);
            }
            port.has_room();
        }
        line.complete();
    }
}

impl Console {
    fn obey(&self, message: &[u8], ports: &[Rc<Port>]) {
        let Some((&[a, b, c, d, e, f, g, h], _)) = message.split_first_chunk::<MESSAGE>() else {
            return;
        };
        let (number, event) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
        let Some(port) = ports.iter().find(|port| port.index() as u32 == number) else { return };
        match Event::from_raw(event) {
            Some(Event::DeviceAdd) => {
                self.tell(number, Event::PortReady);
                self.tell(number, Event::PortOpen);
            }
            Some(Event::PortOpen) => port.set_connected(u16::from_le_bytes([g, h]) == OPEN),
            // Ports have names, too, which is nothing to us.
            _ => {}
        }
    }

    /// Sends a control message. There are more buffers than messages that are ever under way.
    fn tell(&self, port: u32, event: Event) {
        let [a, b, c, d] = port.to_le_bytes();
        let ([e, f], [g, h]) = (event.raw().to_le_bytes(), 1_u16.to_le_bytes());
        ports::Device::send(self, CONTROL, &[a, b, c, d, e, f, g, h]);
    }

    /// What a pair's device side has brought.
    fn receive(&self, index: usize) -> Vec<Box<[u8]>> {
        self.with(index, |pair| pair.receive.take()).unwrap_or_default()
    }

    fn publish(&self, index: usize) {
        if let Some((receive, notify)) =
            self.with(index, |pair| (pair.receive.index, pair.receive.queue.publish()))
            && notify
        {
            self.transport.borrow_mut().notify(receive);
        }
    }

    fn with<R>(&self, index: usize, access: impl FnOnce(&mut Pair) -> R) -> Option<R> {
        self.pairs.borrow_mut().get_mut(index).map(access)
    }
}

impl ports::Device for Console {
    fn send(&self, port: usize, bytes: &[u8]) -> usize {
        let sent = self.with(port, |pair| {
            let count = pair.send.put(bytes);
            (count, pair.send.index, count > 0 && pair.send.queue.publish())
        });
        let Some((count, queue, notify)) = sent else { return 0 };
        if notify {
            self.transport.borrow_mut().notify(queue);
        }
        count
    }

    fn refill(&self, port: usize, count: usize) {
        self.with(port, |pair| pair.receive.give(count));
        self.publish(port);
    }
}

impl Pair {
    fn new(first: u16) -> Result<Pair, OutOfMemory> {
        Ok(Pair { receive: Buffers::new(first)?, send: Buffers::new(first + 1)? })
    }
}

impl Buffers {
    fn new(index: u16) -> Result<Buffers, OutOfMemory> {
        let pages = (0..BUFFERS).map(|_| SharedPage::allocate()).collect::<Result<_, _>>()?;
        Ok(Buffers { queue: Virtqueue::new(BUFFERS, 1)?, pages, index })
    }

    /// Gives the device empty buffers.
    fn give(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(page) = self.next_page() {
                let span = Span { address: bus_address(page), length: PAGE_SIZE as u32 };
                self.queue.push([], [span]);
            }
        }
    }

    /// Takes back what the device has filled.
    fn take(&mut self) -> Vec<Box<[u8]>> {
        let next = || self.pop().map(|(page, written)| copy(&page, written));
        core::iter::from_fn(next).collect()
    }

    /// Gives the device a filled buffer; returns how many of the bytes are in it.
    fn put(&mut self, bytes: &[u8]) -> usize {
        while self.pop().is_some() {}
        let Some(page) = self.next_page() else { return 0 };
        let (bytes, _) = bytes.split_at(bytes.len().min(PAGE_SIZE));
        page.write_bytes(0, bytes);
        let span = Span { address: bus_address(page), length: bytes.len() as u32 };
        self.queue.push([span], []);
        bytes.len()
    }

    /// The page of the slot that is used next.
    fn next_page(&self) -> Option<&SharedPage> {
        self.pages.get(usize::from(self.queue.next_slot()?))
    }

    /// A page that the device is done with, and what it says it has written there. A device that
    /// breaks the rules brings nothing any more.
    fn pop(&mut self) -> Option<(SharedPage, usize)> {
        let Used { slot, written } = self.queue.pop().ok()??;
        Some((self.pages.get(usize::from(slot))?.clone(), (written as usize).min(PAGE_SIZE)))
    }
}

fn copy(page: &SharedPage, length: usize) -> Box<[u8]> {
    let mut bytes = vec![0; length];
    page.read_bytes(0, &mut bytes);
    bytes.into()
}
