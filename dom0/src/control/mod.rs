//! The control channels by which programs on the host reach dom0's shell (`cargo xtask xl`).
//!
//! * [`ports`]: who is connected to a channel, and the bytes in both directions
//! * `device`: the virtio console device whose ports the channels are
//! * [`Connection`]: one program on the host, in the frames of [`abi::control`]

mod connection;
mod device;
mod ports;

use alloc::rc::Rc;
use alloc::vec::Vec;

use pv_guest_kernel::Environment;

pub use connection::{Connection, Gone};
pub use ports::Port;

/// Finds the device and brings up its ports, which are none if there is no device.
pub fn start(environment: &Environment) -> Vec<Rc<Port>> {
    for candidate in &environment.virtio {
        match device::start(candidate) {
            Ok(Some(ports)) => return ports,
            Ok(None) => {}
            Err(error) => log::error!("the control device at {:#x}: {error}", candidate.base),
        }
    }
    Vec::new()
}
