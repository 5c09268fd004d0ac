//! What virtio devices behind memory-mapped transports have in common (virtio 1.2). Transport and
//! negotiation are those of the crate `virtio-drivers`; the queue is our own: [`virtqueue`] says
//! why.

use core::fmt;
use core::ptr::NonNull;

use bitflags::Flags;
use pv_guest_kernel::device_tree::MmioDevice;
use pv_guest_kernel::memory::OutOfMemory;
use thiserror::Error;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport};
use virtio_drivers::transport::{DeviceType, DeviceTypeError, Transport};

mod virtqueue;

pub use virtqueue::{Addresses, Broken, Span, Used, Virtqueue, bus_address};

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// There is something else behind the transport's address.
    #[error("no virtio transport: {0}")]
    Transport(MmioError),
    /// The device is older than the standard, or very plain.
    #[error("the device lacks {0} (QEMU: -global virtio-mmio.force-legacy=false)")]
    Features(FeatureNames),
    /// The device has too short a queue.
    #[error("a queue of {0} entries is too small")]
    QueueSize(u32),
    /// The device does not let its configuration be read.
    #[error("the configuration space cannot be read: {0}")]
    Configuration(virtio_drivers::Error),
    /// No memory for the queues.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Names of missing features, for people.
pub type FeatureNames = heapless::String<64>;

/// The transport of a device of this type; `None` if there is another device, or none.
///
/// # Errors
/// [`DeviceError::Transport`]
pub fn open(
    device: &MmioDevice,
    wanted: DeviceType,
) -> Result<Option<MmioTransport<'static>>, DeviceError> {
    match transport(device) {
        // The transport is there, but nothing is plugged in.
        Err(MmioError::InvalidDeviceID(_)) => Ok(None),
        Err(error) => Err(DeviceError::Transport(error)),
        Ok(transport) if transport.device_type() == wanted => Ok(Some(transport)),
        Ok(transport) => {
            // Dropping it would reset a device that another driver may be using.
            core::mem::forget(transport);
            Ok(None)
        }
    }
}

#[expect(unsafe_code, reason = "that registers are there is the device tree's promise")]
fn transport(device: &MmioDevice) -> Result<MmioTransport<'static>, MmioError> {
    let (base, size) = (device.base as usize, device.size as usize);
    let header = NonNull::new(core::ptr::with_exposed_provenance_mut(base))
        .ok_or(MmioError::InvalidDeviceID(DeviceTypeError::InvalidDeviceType(0)))?;
    // SAFETY: the device tree, which the monitor wrote, says that these are the registers of a
    // virtio transport. They are mapped 1:1 for as long as this domain lives, and whoever opens
    // a transport uses only that of a device of its own type.
    unsafe { MmioTransport::new(header, size) }
}

/// Agrees on features: those of `F` that the device has. It must have `needed`.
///
/// # Errors
/// [`DeviceError::Features`]
pub fn negotiate<F>(transport: &mut impl Transport, needed: F) -> Result<F, DeviceError>
where
    F: Flags<Bits = u64> + fmt::Debug + Copy,
    F: core::ops::BitOr<Output = F> + core::ops::BitAnd<Output = F>,
{
    let features = transport.begin_init(F::all());
    if features.contains(needed) {
        return Ok(features);
    }
    let mut names = FeatureNames::new();
    for (name, _) in needed.difference(features).iter_names() {
        // A name too long is cut off: it is for people only.
        let _ = names.push_str(name).and_then(|()| names.push(' '));
    }
    Err(DeviceError::Features(names))
}

/// Makes a queue of the device known to it.
///
/// # Errors
/// [`DeviceError::QueueSize`]
pub fn set_up_queue(
    transport: &mut impl Transport,
    index: u16,
    queue: &Virtqueue,
) -> Result<(), DeviceError> {
    let (size, largest) = (u32::from(queue.size()), transport.max_queue_size(index));
    if largest < size {
        return Err(DeviceError::QueueSize(largest));
    }
    let at = queue.addresses();
    transport.queue_set(index, size, at.descriptors, at.available, at.used);
    Ok(())
}
