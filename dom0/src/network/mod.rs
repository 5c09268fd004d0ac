//! The network: a bridge between the guests' interfaces and the machine's own.
//!
//! * `vif`: the far end of one guest's interface: what the guest sends, checked by `request` and
//!   limited by [`credit`](crate::credit); `receiver` is the way of frames to the guest
//! * `nic`: the machine's virtio network device
//! * `switch`: delivers frames to ports; `bridge` knows which station is behind which
//! * `station`: dom0 itself, which answers pings
//! * `frame`: a frame on its way; `segment` and `checksum` do what a receiver cannot
//!
//! ```text
//! guest's ring --> request --> vif --> switch --> receiver --> the other guest's ring
//!                                      |    ^
//!                                      +nic-+
//! ```
//!
//! A frame is copied, not mapped: its beginning once into dom0, to be looked at, and the rest, if
//! it is long, from the sender's pages to the receiver's directly. A copy within the monitor costs
//! less than mapping and unmapping a page, whatever its length, so there is no mode that maps.

use pv_guest_kernel::Environment;

mod bridge;
mod checksum;
mod frame;
mod nic;
mod receiver;
mod request;
mod segment;
mod station;
mod switch;
mod vif;

pub(crate) use station::HARDWARE as DOM0_ADDRESS;
pub(crate) use vif::serve;

/// Finds the machine's network device and connects it to the bridge: the first one, if there are
/// several. Without one, the guests reach only each other.
pub fn start(environment: &Environment) {
    for device in &environment.virtio {
        match nic::start(device) {
            Ok(true) => return log::info!("network device at {:#x}", device.base),
            Ok(false) => {}
            Err(error) => log::error!("the network device at {:#x}: {error}", device.base),
        }
    }
    log::warn!("there is no network device: guests reach only each other");
}
