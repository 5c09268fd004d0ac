//! The rows, in the order in which they are printed.

mod calls;
mod events;
mod grants;
mod interrupts;
mod load;
mod memory;

use pv_guest_kernel::Environment;
use pv_guest_kernel::abi::DomId;

use crate::pair;
use crate::report::{Failure, Report};

/// Measures all, the last ones only with a partner.
///
/// # Errors
/// Something that several rows need is not to be had.
pub async fn all(
    report: &Report,
    environment: &Environment,
    peer: Option<DomId>,
) -> Result<(), Failure> {
    let _load = load::Load::from_command_line(environment)?;
    calls::rows(report).await;
    events::rows(report).await?;
    interrupts::rows(report, environment.interrupt_controller).await;
    grants::rows(report).await?;
    memory::rows(report).await?;
    match peer {
        Some(peer) => pair::rows(report, peer).await,
        None => Ok(()),
    }
}
