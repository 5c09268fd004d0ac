//! The virtio entropy device (virtio 1.2, section 5.4): fills the buffers that it is given.

use alloc::rc::Rc;
use alloc::vec;

use abi::PAGE_SIZE;
use bitflags::bitflags;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::executor;
use pv_guest_kernel::interrupt::{Line, Trigger};
use pv_guest_kernel::shared::SharedPage;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use super::source::{self, Source};
use crate::virtio::{self, Broken, DeviceError, Span, Virtqueue, bus_address};

/// Its only queue.
const QUEUE: u16 = 0;
/// Requests in flight: one is enough, but a queue has two slots at least.
const SIZE: u16 = 2;

bitflags! {
    /// Features that this driver uses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Features: u64 {
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

/// The device.
struct Rng {
    transport: MmioTransport<'static>,
    line: Line,
    queue: Virtqueue,
    buffer: SharedPage,
}

/// Brings up the entropy device behind a transport and feeds the machine's source from then on.
/// Says whether there is one.
pub(super) fn start(device: &MmioDevice) -> Result<bool, DeviceError> {
    let Some(mut transport) = virtio::open(device, DeviceType::EntropySource)? else {
        return Ok(false);
    };
    virtio::negotiate(&mut transport, Features::VERSION_1)?;
    let (queue, buffer) = (Virtqueue::new(SIZE, 1)?, SharedPage::allocate()?);
    virtio::set_up_queue(&mut transport, QUEUE, &queue)?;
    transport.finish_init();
    // QEMU's device tree says "edge" of all its virtio transports.
    let line = Line::new(device.intid, Trigger::Edge);
    executor::spawn(feed(source::set_up(), Rng { transport, line, queue, buffer })).detach();
    Ok(true)
}

/// Gets bytes only when somebody waits for them, so that the machine is quiet otherwise.
async fn feed(source: Rc<Source>, mut device: Rng) {
    loop {
        source.wanted().await;
        let mut bytes = vec![0; PAGE_SIZE];
        match device.read(&mut bytes).await {
            Ok(count) => source.feed(bytes.get(..count).unwrap_or_default()),
            Err(error) => {
                log::error!("the entropy device is no longer used: {error}");
                return source.exhaust();
            }
        }
    }
}

impl Rng {
    /// Gets random bytes; says how many it was given.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        let buffer = Span { address: bus_address(&self.buffer), length: PAGE_SIZE as u32 };
        self.queue.push([], [buffer]).ok_or(Broken)?;
        if self.queue.publish() {
            self.transport.notify(QUEUE);
        }
        let used = loop {
            self.line.wait().await;
            // The device is told first that its interrupt was seen: what it does then interrupts again.
            self.transport.ack_interrupt();
            let used = self.queue.pop();
            self.line.complete();
            if let Some(used) = used? {
                break used;
            }
        };
        self.buffer.read_bytes(0, bytes);
        Ok(used.written as usize)
    }
}
