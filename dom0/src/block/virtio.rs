//! Brings up a virtio block device (virtio 1.2, section 5.2) behind its memory-mapped transport,
//! which the crate `virtio-drivers` provides. The queue is our own: [`super::virtqueue`] says why.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::ToString;
use core::cell::RefCell;
use core::ptr::NonNull;

use bitflags::bitflags;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::executor;
use pv_guest_kernel::interrupt::{Line, Trigger};
use pv_guest_kernel::memory::OutOfMemory;
use thiserror::Error;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport};
use virtio_drivers::transport::{DeviceType, DeviceTypeError, Transport};

use super::disk::{Disk, Info};
use super::virtqueue::{self, Virtqueue};

/// A block device has one queue unless more are negotiated.
const QUEUE: u16 = 0;
/// The unit of the device's capacity, in bytes.
const SECTOR: u64 = 512;
/// Where the configuration space says how large the disk is, in two words.
const CAPACITY: usize = 0;

bitflags! {
    /// Features that this driver uses. Not EVENT_IDX: the queue does without.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Features: u64 {
        /// The disk cannot be written.
        const READ_ONLY = 1 << 5;
        /// Its cache can be flushed.
        const FLUSH = 1 << 9;
        /// Descriptors may lie in tables of their own.
        const INDIRECT = 1 << 28;
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

/// Why a disk cannot be used.
#[derive(Debug, Error)]
pub(super) enum DeviceError {
    #[error("no virtio transport: {0}")]
    Transport(MmioError),
    #[error("the device lacks {0:?} (QEMU: -global virtio-mmio.force-legacy=false)")]
    Features(Features),
    #[error("a queue of {0} entries is too small")]
    QueueSize(u32),
    #[error("the configuration space cannot be read: {0}")]
    Configuration(virtio_drivers::Error),
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Brings up the disk behind a transport and serves its interrupt from then on. `None` if there
/// is no disk.
pub(super) fn start(device: &MmioDevice, name: &str) -> Result<Option<Rc<Disk>>, DeviceError> {
    let mut transport = match transport(device) {
        // The transport is there, but nothing is plugged in.
        Err(MmioError::InvalidDeviceID(_)) => return Ok(None),
        Err(error) => return Err(DeviceError::Transport(error)),
        Ok(transport) if transport.device_type() != DeviceType::Block => return Ok(None),
        Ok(transport) => transport,
    };
    let features = negotiate(&mut transport)?;
    let info = Info {
        name: name.to_string(),
        bytes: capacity(&transport).map_err(DeviceError::Configuration)?.saturating_mul(SECTOR),
        read_only: features.contains(Features::READ_ONLY),
        flush: features.contains(Features::FLUSH),
    };
    let queue = set_up_queue(&mut transport)?;
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

#[expect(unsafe_code, reason = "that registers are there is the device tree's promise")]
fn transport(device: &MmioDevice) -> Result<MmioTransport<'static>, MmioError> {
    let (base, size) = (device.base as usize, device.size as usize);
    let header = NonNull::new(core::ptr::with_exposed_provenance_mut(base))
        .ok_or(MmioError::InvalidDeviceID(DeviceTypeError::InvalidDeviceType(0)))?;
    // SAFETY: the device tree, which the monitor wrote, says that these are the registers of a
    // virtio transport. They are mapped 1:1 for as long as this domain lives, and this is the
    // only driver for block devices.
    unsafe { MmioTransport::new(header, size) }
}

fn negotiate(transport: &mut impl Transport) -> Result<Features, DeviceError> {
    let features = transport.begin_init(Features::all());
    let needed = Features::INDIRECT | Features::VERSION_1;
    if features.contains(needed) {
        Ok(features)
    } else {
        Err(DeviceError::Features(needed - features))
    }
}

/// In sectors.
fn capacity(transport: &impl Transport) -> Result<u64, virtio_drivers::Error> {
    transport.read_consistent(|| {
        let low: u32 = transport.read_config_space(CAPACITY)?;
        let high: u32 = transport.read_config_space(CAPACITY + size_of::<u32>())?;
        Ok(u64::from(high) << 32 | u64::from(low))
    })
}

fn set_up_queue(transport: &mut impl Transport) -> Result<Virtqueue, DeviceError> {
    let largest = transport.max_queue_size(QUEUE);
    if largest < u32::from(virtqueue::SIZE) {
        return Err(DeviceError::QueueSize(largest));
    }
    let queue = Virtqueue::new()?;
    let at = queue.addresses();
    transport.queue_set(QUEUE, u32::from(virtqueue::SIZE), at.descriptors, at.available, at.used);
    Ok(queue)
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
