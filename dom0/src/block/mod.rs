//! The real disks, and the far end of the guests' virtual ones.
//!
//! * [`disks`]: which disks the machine has, and who uses them
//! * `vbd`: the life of one guest's disk; `server` answers the requests on its rings, `request`
//!   checks them, `memory` maps what they name
//! * `volume`: what a guest's disk is made of: an `extent` of a real disk (perhaps a `partition`), or
//!   an `overlay` that keeps what differs from one; [`target`] is what a domain file says of it
//! * `running`: which of them are served, to restart them; [`speed`]: how fast dom0 itself is
//! * `disk`: transfers in flight on one real disk; `queue` is its queue to the device, `virtio`
//!   brings the device up
//!
//! ```text
//! guest's ring --> server --> request (checked) --> memory (mapped) --> volume --> disk --> queue
//!                     ^                                                                       |
//!                     +------- response <--- mapping ends <--- interrupt <--------------------+
//! ```

mod disk;
pub mod disks;
mod extent;
mod memory;
mod overlay;
mod partition;
mod queue;
mod request;
mod running;
mod server;
pub mod speed;
mod table;
pub mod target;
mod vbd;
mod virtio;
mod volume;

pub use disk::Info;
pub use running::restart;
pub(crate) use vbd::serve;
pub use volume::forget;
