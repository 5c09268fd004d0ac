//! The real disks, and the far end of the guests' virtual ones.
//!
//! In layers, each of which uses those above it only:
//!
//! * the device: `queue` is its queue, `disk` keeps the transfers in flight on it, `virtio` brings
//!   it up
//! * a request: `request` checks it, `memory` maps what it names, `work` is what it then asks for
//! * what a guest's disk is made of: [`target`] is what a domain file says; [`disks`] knows the
//!   machine's disks (and a `partition` of one) and who uses which `extent` of them; an `overlay`
//!   keeps what differs from an extent; `volume` is either of the two
//! * one guest's disk: `server` answers the requests on a ring, `vbd` is its life from connection
//!   to disconnection, `running` ends that on request
//! * [`speed`]: how fast dom0 itself is
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
mod work;

pub use disk::Info;
pub use running::{Stop, restart};
pub(crate) use vbd::serve;
pub use volume::forget;
