//! Interrupts that are not events, and accesses that trap.

use pv_guest_kernel::device_tree::InterruptController;

use crate::machine::interrupt::{self, Handler};
use crate::machine::{counter, register};
use crate::report::{Failure, Report};

/// GICD_TYPER, from the distributor's start.
const GICD_TYPER: u64 = 0x4;
/// Ticks to a timer's expiry: long enough to be spinning, or asleep, by then.
const SPIN: u64 = 3_000;
const SLEEP: u64 = 100_000;

/// Measures them.
pub async fn rows(report: &Report, controller: InterruptController) {
    interrupt::enable_software_generated(controller);
    let handler = Handler::install();
    report
        .row("self-sgi", |ruler| {
            let seen = interrupt::last();
            handler.unmask();
            let (ticks, ()) = ruler.time(|| {
                interrupt::send_to_self();
                handler.spin_past(seen);
            });
            handler.mask();
            Ok(ticks)
        })
        .await;
    report
        .row("timer-running", |_| {
            let seen = interrupt::last();
            handler.unmask();
            let deadline = counter::now() + SPIN;
            interrupt::arm_timer(deadline);
            handler.spin_past(seen);
            handler.mask();
            since(deadline)
        })
        .await;
    report
        .row("timer-wfi", |_| {
            let seen = interrupt::last();
            let deadline = counter::now() + SLEEP;
            interrupt::arm_timer(deadline);
            handler.sleep_past(seen);
            since(deadline)
        })
        .await;
    drop(handler);
    let typer = controller.distributor + GICD_TYPER;
    report
        .row("gicd-typer", |ruler| {
            let (ticks, value) = ruler.time(|| register::read32(typer));
            (value != 0).then_some(ticks).ok_or(Failure::Wrong("GICD_TYPER is zero"))
        })
        .await;
    report
        .row("id-register", |ruler| {
            let (ticks, value) = ruler.time(register::id_aa64pfr0);
            (value != 0).then_some(ticks).ok_or(Failure::Wrong("ID_AA64PFR0_EL1 is zero"))
        })
        .await;
}

/// Ticks from the timer's expiry to the handler.
fn since(deadline: u64) -> Result<u64, Failure> {
    interrupt::disarm_timer();
    let ticks = interrupt::last().checked_sub(deadline);
    ticks.ok_or(Failure::Wrong("another interrupt came first"))
}
