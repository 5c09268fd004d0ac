//! The real disks, and the far end of the guests' virtual ones.
//!
//! * [`disks`]: which disks the machine has, and who uses them
//! * `backend`: serves one guest's disk; `request` checks what the guest asks
//! * `disk`: transfers in flight on one disk; `queue` is its queue to the device, `virtio`
//!   brings the device up
//!
//! ```text
//! guest's ring --> backend --> request (checked) --> grant mapping --> disk --> queue
//!                     ^                                                            |
//!                     +------- response <--- mapping ends <--- interrupt <---------+
//! ```

use pv_guest_kernel::executor;
use pv_guest_kernel::xenbus::serve_backends;
use pv_guest_kernel::xenstore::Client;

mod backend;
mod disk;
pub mod disks;
mod queue;
mod request;
mod virtio;

pub use disk::Info;

/// Serves every virtual disk that the toolstack puts into `backend/vbd`. Its keys: `params` names
/// the disk, `mode` is `r` or `w`; `error` says why a device was closed.
pub fn spawn_backend_watcher(store: Client) {
    executor::spawn(async move {
        let Err(error) = serve_backends(&store, "vbd", backend::serve).await;
        log::error!("no guest will get a disk: {error}");
    })
    .detach();
}
