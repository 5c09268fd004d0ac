//! Brings up a virtio block device (virtio 1.2, section 5.2).

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::ToString;
use core::cell::RefCell;

use bitflags::bitflags;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::executor;
use pv_guest_kernel::interrupt::{Line, Trigger};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use super::disk::{Discard, Disk, Info};
use super::queue::Queue;
use crate::virtio::{self, DeviceError};

/// A block device has one queue unless more are negotiated.
const QUEUE: u16 = 0;
/// The unit of the device's capacity, in bytes.
const SECTOR: u64 = 512;
/// Where the configuration space says how large the disk is, in two words.
const CAPACITY: usize = 0;
/// Where it says how many sectors can be discarded at once, and in units of how many.
const MAX_DISCARD_SECTORS: usize = 36;
const DISCARD_ALIGNMENT: usize = 44;

bitflags! {
    /// Features that this driver uses. Not EVENT_IDX: the queue does without.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Features: u64 {
        /// The disk cannot be written.
        const READ_ONLY = 1 << 5;
        /// Its cache can be flushed.
        const FLUSH = 1 << 9;
        /// It can forget sectors.
        const DISCARD = 1 << 13;
        /// Descriptors may lie in tables of their own.
        const INDIRECT = 1 << 28;
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

/// Brings up the disk behind a transport and serves its interrupt from then on. `None` if there
/// is no disk.
pub(super) fn start(device: &MmioDevice, name: &str) -> Result<Option<Rc<Disk>>, DeviceError> {
    let Some(mut transport) = virtio::open(device, DeviceType::Block)? else { return Ok(None) };
    let needed = Features::INDIRECT | Features::VERSION_1;
    let features = virtio::negotiate(&mut transport, needed)?;
    let info = Info {
        name: name.to_string(),
        bytes: capacity(&transport).map_err(DeviceError::Configuration)?.saturating_mul(SECTOR),
        read_only: features.contains(Features::READ_ONLY),
        flush: features.contains(Features::FLUSH),
        discard: match features.contains(Features::DISCARD) {
            true => Some(discard(&transport).map_err(DeviceError::Configuration)?),
            false => None,
        },
    };
    let queue = Queue::new()?;
    virtio::set_up_queue(&mut transport, QUEUE, queue.virtqueue())?;
    transport.finish_init();

    let transport = Rc::new(RefCell::new(transport));
    let ringing = transport.clone();
    let doorbell = Box::new(move || ringing.borrow_mut().notify(QUEUE));
    let disk = Rc::new(Disk::new(info, queue, doorbell));
    let publisher = disk.clone();
    executor::spawn(async move { publisher.publish().await }).detach();
    // QEMU's device tree says "edge" of all its virtio transports.
    let line = Line::new(device.intid, Trigger::Edge);
    executor::spawn(serve_interrupts(disk.clone(), line, transport)).detach();
    Ok(Some(disk))
}

/// In sectors.
fn capacity(transport: &impl Transport) -> Result<u64, virtio_drivers::Error> {
    transport.read_consistent(|| {
        let low: u32 = transport.read_config_space(CAPACITY)?;
        let high: u32 = transport.read_config_space(CAPACITY + size_of::<u32>())?;
        Ok(u64::from(high) << 32 | u64::from(low))
    })
}

fn discard(transport: &impl Transport) -> Result<Discard, virtio_drivers::Error> {
    transport.read_consistent(|| {
        let most: u32 = transport.read_config_space(MAX_DISCARD_SECTORS)?;
        let unit: u32 = transport.read_config_space(DISCARD_ALIGNMENT)?;
        Ok(Discard { most: most.max(1), unit: unit.max(1) })
    })
}

/// The device is told first that its interrupt was seen, then what it has done is looked at: what
/// it does in between interrupts again.
async fn serve_interrupts(
    disk: Rc<Disk>,
    line: Line,
    transport: Rc<RefCell<MmioTransport<'static>>>,
) {
    loop {
        line.wait().await;
        transport.borrow_mut().ack_interrupt();
        disk.collect();
        line.complete();
    }
}
