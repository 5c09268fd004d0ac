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

mod backend;
mod disk;
pub mod disks;
mod queue;
mod request;
mod virtio;

pub(crate) use backend::serve;
pub use disk::Info;
