//! The rows, in the order in which they are printed.

mod calls;
mod events;
mod grants;
mod interrupts;
mod load;
mod memory;

use pv_guest_kernel::device_tree::InterruptController;

use crate::pair::Pair;
use crate::report::{Failure, Report};

pub use load::Load;

/// Measures all, those that take two domains only with a partner.
///
/// # Errors
/// Something that several rows need is not to be had.
pub async fn all(
    report: &Report,
    controller: InterruptController,
    pair: Option<Pair>,
) -> Result<(), Failure> {
    calls::rows(report).await;
    events::rows(report).await?;
    interrupts::rows(report, controller).await;
    grants::rows(report).await?;
    memory::rows(report).await?;
    match pair {
        Some(pair) => pair.rows(report).await,
        None => Ok(()),
    }
}
