//! Interrupts as the GIC delivers them: the one that announces events, the timer's, and in the
//! privileged domain those of devices.
//!
//! They stay masked at the CPU and are acknowledged by the executor. Ending an interrupt is split
//! (EOImode 1): its priority is dropped at once, so that others get through, and a device's is
//! deactivated only when its driver is done, so that it cannot storm meanwhile.

use alloc::collections::BTreeMap;
use core::cell::RefCell;
use core::task::{Poll, Waker};

use crate::local::StaysHome;
use crate::machine;

/// First interrupt number that belongs to a device rather than to a CPU.
const FIRST_SHARED: u32 = 32;

/// A device's interrupt, owned by its driver.
#[derive(Debug)]
pub struct Line {
    intid: u32,
    _stays_home: StaysHome,
}

/// How a device signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// By a level that it holds until it is served.
    Level,
    /// By a rising edge.
    Edge,
}

#[derive(Debug, Default)]
struct State {
    active: bool,
    waker: Option<Waker>,
}

crate::vcpu_local! {
    static LINES: RefCell<BTreeMap<u32, State>> = RefCell::new(BTreeMap::new());
}

impl Line {
    /// Enables the device's interrupt, which must be a shared one (INTID 32 and up).
    pub fn new(intid: u32, trigger: Trigger) -> Line {
        LINES.with(|lines| lines.borrow_mut().insert(intid, State::default()));
        machine::enable_shared_interrupt(intid, trigger);
        Line { intid, _stays_home: StaysHome::new() }
    }

    /// Waits until the device interrupts. It cannot do so again until [`Line::complete`].
    pub async fn wait(&self) {
        core::future::poll_fn(|context| {
            LINES.with(|lines| match lines.borrow_mut().get_mut(&self.intid) {
                Some(state) if !state.active => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
        })
        .await
    }

    /// Says that the device has been served and may interrupt again.
    pub fn complete(&self) {
        LINES.with(|lines| {
            if let Some(state) = lines.borrow_mut().get_mut(&self.intid)
                && core::mem::take(&mut state.active)
            {
                machine::deactivate_interrupt(self.intid);
            }
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        machine::disable_shared_interrupt(self.intid);
        self.complete();
        LINES.with(|lines| lines.borrow_mut().remove(&self.intid));
    }
}

/// Takes all interrupts that are pending. Events and timers are looked for by the executor
/// anyway, so theirs need no more than to be ended.
pub(crate) fn acknowledge_all() {
    while let Some(intid) = machine::acknowledge_interrupt() {
        if intid < FIRST_SHARED || !mark_active(intid) {
            machine::deactivate_interrupt(intid);
        }
    }
}

/// Whether a driver has this line, and will deactivate it.
fn mark_active(intid: u32) -> bool {
    LINES.with(|lines| match lines.borrow_mut().get_mut(&intid) {
        Some(state) => {
            state.active = true;
            state.waker.take().into_iter().for_each(Waker::wake);
            true
        }
        None => false,
    })
}
