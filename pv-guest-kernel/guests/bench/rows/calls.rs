//! Hypercalls that do little: what the way to the monitor and back costs.

use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::abi::version::Features;
use pv_guest_kernel::hypercall;

use crate::machine::call::{self, NullCalls};
use crate::report::{Failure, Report};

/// Measures them.
pub async fn rows(report: &Report) {
    report
        .row("null-hypercall", |ruler| {
            let (ticks, version) = ruler.time(call::null);
            version.map(|_| ticks).map_err(Failure::from)
        })
        .await;
    report
        .row("unknown-hypercall", |ruler| {
            let (ticks, result) = ruler.time(call::unknown);
            let refused = result == Errno::ENOSYS.to_return();
            refused.then_some(ticks).ok_or(Failure::Wrong("an unknown call did something"))
        })
        .await;
    report
        .row("get-features", |ruler| {
            let (ticks, features) = ruler.time(hypercall::version::features);
            let told = features?.contains(Features::AUTO_TRANSLATED_PHYSMAP);
            told.then_some(ticks).ok_or(Failure::Wrong("features are missing"))
        })
        .await;
    let mut calls = NullCalls::new();
    report
        .row("multicall-8", |ruler| {
            let (ticks, result) = ruler.time(|| calls.make());
            result?;
            (calls.last() != 0).then_some(ticks).ok_or(Failure::Wrong("the last was not made"))
        })
        .await;
    report.row("yield-alone", |ruler| Ok(ruler.time(hypercall::sched::yield_now).0)).await;
}
