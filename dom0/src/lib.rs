//! The privileged domain: everything that manages other domains and serves their devices.
//!
//! * [`store`]: the configuration store that all domains share.
//! * [`console`]: the far end of every domain's console.
//! * [`control`]: the channels by which programs on the host reach the shell.
//! * [`block`]: the real disks, and the far end of every domain's virtual disks.
//! * [`entropy`]: the machine's entropy device, and the far end of every domain's.
//! * [`backends`]: all that serves a device, by class.
//! * [`virtio`]: what the drivers of the machine's own devices have in common.
//! * [`network`]: the real network device, the bridge, and the far end of every domain's interfaces.
//! * [`credit`]: limits how much a guest may have done for it in a time.
//! * [`toolstack`]: makes, watches and ends domains.
//! * [`shell`]: the `xl`-like command line by which a person drives the toolstack.
//! * [`ramdisk`]: the kernels and domain files that the machine was started with.
//! * [`byte_ring`]: what the store and the consoles have in common.
//!
//! All of it is cooperative tasks on vCPU 0; nothing here blocks a thread, because there is none.

#![cfg_attr(target_os = "none", no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod backends;
pub mod block;
pub mod byte_ring;
pub mod console;
pub mod control;
pub mod credit;
pub mod entropy;
pub mod network;
pub mod ramdisk;
pub mod shell;
pub mod store;
#[cfg(test)]
mod testing;
pub mod toolstack;
pub mod virtio;
