//! Several vCPUs.
//!
//! vCPU 0 runs the kernel: the executor and everything that it drives. The others wait (in WFI, at
//! no cost) for closures that [`run_on`] sends them, and run one at a time, each to its end.
//!
//! # What a closure may use on another vCPU
//!
//! - What it owns, and what the type system lets it share: closure and result are `Send`.
//! - The heap, atomics and locks, [`crate::time::now`], hypercalls.
//! - `print!` and the `log` macros.
//! - Wakers: waking a task of vCPU 0 from elsewhere wakes vCPU 0.
//! - [`notify`] and [`send_sgi`], and what its [`Vcpu`] offers: it is the vCPU's own way to wait
//!   and to sleep, and cannot be had elsewhere.
//!
//! It must not use what belongs to the executor: tasks, timers, event channels, grants, the store,
//! drivers. Most of these are not `Send`. What can be named without a value (`executor::spawn`,
//! `time::sleep`) keeps its state in [`crate::vcpu_local!`], which panics on another vCPU.

mod control;
mod error;
mod firmware;
pub mod hotplug;
mod mailbox;
mod secondary;
mod wakeups;

pub use control::{is_on, start, stop};
pub use error::Error;
pub use firmware::affinity_info;
pub use secondary::{Counts, Vcpu};
pub(crate) use wakeups::{collect, push, wait};

use alloc::boxed::Box;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use abi::VcpuId;
use futures_channel::oneshot;

use crate::machine;
use mailbox::Job;

/// vCPUs that a domain may have.
pub const MAX_VCPUS: usize = 8;

/// Says that this vCPU only waits for time to pass, or for another: to call in a loop that does.
/// Nothing sleeps; but a CPU that shares what it runs on may let the other go first.
pub fn relax() {
    machine::relax();
}

/// Has a vCPU, which must be on and not vCPU 0, run a closure after those that it was given before.
///
/// # Errors
/// [`Error::Off`] if the vCPU is off, or is about to be.
pub fn run_on<T: Send + 'static>(
    vcpu: VcpuId,
    closure: impl FnOnce(&Vcpu) -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    let (sender, receiver) = oneshot::channel();
    control::post(
        vcpu,
        Job::Run(Box::new(move |vcpu| {
            // Nobody may want to know.
            let _ = sender.send(closure(vcpu));
        })),
    )?;
    Ok(JoinHandle(receiver))
}

/// The result of a closure that runs on another vCPU. If dropped, the closure runs nevertheless.
#[derive(Debug)]
pub struct JoinHandle<T>(oneshot::Receiver<T>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Error::Off)
    }
}

/// A software-generated interrupt, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sgi(u8);

impl Sgi {
    /// The one with this number, if there is one.
    pub const fn new(number: u8) -> Option<Sgi> {
        if number < 16 { Some(Sgi(number)) } else { None }
    }
}

impl fmt::Display for Sgi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Interrupts a vCPU by an SGI. For any vCPU to do, also to itself.
pub fn send_sgi(vcpu: VcpuId, sgi: Sgi) {
    machine::send_sgi(vcpu.0, sgi.0.into());
}

/// Interrupts a vCPU other than vCPU 0 by an event. For any vCPU to do.
///
/// # Errors
/// [`Error::Off`] if it was never on.
pub fn notify(vcpu: VcpuId) -> Result<(), Error> {
    secondary::find(vcpu).ok_or(Error::Off)?.notify();
    Ok(())
}

/// Which interrupts a vCPU has taken since it was first started. All zero if it never was.
pub fn counts(vcpu: VcpuId) -> Counts {
    secondary::find(vcpu).map(secondary::Secondary::counts).unwrap_or_default()
}
