//! Giving memory back and taking it, and what the monitor takes of a domain's time.

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::memory::Page;

use crate::machine::{call, counter};
use crate::report::{Failure, Report};

/// Rounds of two instructions each.
const ROUNDS: u64 = 10_000_000;
/// How often so much work is done.
const SAMPLES: usize = 3;

/// Measures them.
///
/// # Errors
/// There is no memory.
pub async fn rows(report: &Report) -> Result<(), Failure> {
    let mut page = Page::new().map_err(Errno::from)?;
    report
        .row("decrease-populate", |ruler| {
            let (ticks, done) = ruler.time(|| call::exchange(&mut page));
            (done? == (1, 1)).then_some(ticks).ok_or(Failure::Wrong("not one page each"))
        })
        .await;
    report
        .row_of("taken-of-20m", SAMPLES, |ruler| {
            let (ticks, ()) = ruler.time(|| counter::work(ROUNDS));
            Ok(ticks.saturating_sub(2 * ROUNDS))
        })
        .await;
    Ok(())
}
