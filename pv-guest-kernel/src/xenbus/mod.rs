//! Split drivers: what every frontend and every backend has to do, written once.
//!
//! Each device has two directories in the store, one for each end (public/io/xenbus.h). The ends
//! find each other there, show each other their state, agree on a ring and an event channel, and
//! take them down again, also when the other end dies and comes back:
//!
//! ```text
//! frontend                                      backend
//! Initialising                                  Initialising   (the toolstack made both)
//!      |                                        InitWait       asks for the frontend's details
//! Initialised  ring-ref, event-channel --->          |
//!      |                               <---     Connected      says what the device is
//! Connected                                          |
//!      |          <===== ring =====>                 |
//! Closing, Closed                      <---     Closing, Closed
//! ```
//!
//! A pair of drivers is two types of messages and two async functions:
//!
//! ```ignore
//! async fn front(device: &Device) -> Result<(), Error> {
//!     let link = FrontLink::<Question, Answer>::connect(device, &[]).await?;
//!     link.send(&Question { .. })?;
//!     let answer = link.receive().await?;
//!     ..
//! }
//!
//! async fn back(device: &Device) -> Result<(), Error> {
//!     let link = BackLink::<Question, Answer>::connect(device).await?;
//!     link.answer(async |question| Answer { .. }).await
//! }
//!
//! run_frontend(&store, "device/clock/0", front).await?; // in the guest
//! serve_backends(&store, "clock", back).await?;         // in dom0
//! ```
//!
//! Both are called again when the other end has gone and comes back. All that they own (ring,
//! grants, mappings, ports) is given back when they return or are dropped. A [`Caller`] is a
//! frontend for many tasks that only ask and wait for the answer: its `front` is written already.
//! `cargo xtask new-driver NAME` writes such a pair; docs/new-driver.md follows one line by line.

mod backend;
mod caller;
mod device;
mod frontend;
mod link;
mod pages;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;

use abi::Errno;
use abi::ring::RingError;
pub use abi::xenbus::State;
use thiserror::Error;

use crate::grant::GrantError;
use crate::memory::OutOfMemory;

pub use backend::serve_backends;
pub use caller::Caller;
pub use device::Device;
pub use frontend::{first_frontend, frontends, run_frontend, start_driver};
pub use link::{BackLink, FrontLink, Link};
pub use pages::RingPages;

/// What a queue's keys begin with, of so many queues: those of a single one are in no directory.
pub fn queue_prefix(index: usize, count: usize) -> String {
    if count == 1 { String::new() } else { format!("queue-{index}/") }
}

/// Why a device is not, or no longer, in operation.
#[derive(Debug, Error)]
pub enum Error {
    /// The other end went away. It may come back.
    #[error("the other end is {0:?}")]
    Gone(State),
    /// The toolstack takes the device away.
    #[error("the device was removed")]
    Removed,
    /// A key that should be there is not, or says what cannot be.
    #[error("{key}: {error}")]
    Key {
        /// The key's path.
        key: String,
        /// What the store said; `EINVAL` for a value without sense.
        error: Errno,
    },
    /// This end was told to do a step that does not follow from its state.
    #[error("a device does not go from {0:?} to {1:?}")]
    Step(State, State),
    /// The other end breaks the ring's rules.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The other end's grants do not work.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The monitor refused something.
    #[error(transparent)]
    Monitor(#[from] Errno),
    /// No page for a ring or a buffer.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The driver's own reason, for people.
    #[error("{0}")]
    Refused(String),
}
