//! Starting and stopping vCPUs, and giving them something to do.

use core::cell::RefCell;
use core::time::Duration;

use abi::VcpuId;
use abi::psci::Affinity;

use super::error::Error;
use super::firmware::{self, affinity_info};
use super::mailbox::Job;
use super::{MAX_VCPUS, secondary, wakeups};
use crate::time;

/// What vCPU 0 knows of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    On,
    Stopping,
}

crate::vcpu_local! {
    static STATES: RefCell<[State; MAX_VCPUS]> = RefCell::new([State::Off; MAX_VCPUS]);
}

/// How often it is looked whether a vCPU has gone.
const PATIENCE: Duration = Duration::from_millis(1);

/// Whether a vCPU takes jobs.
pub fn is_on(vcpu: VcpuId) -> bool {
    state(vcpu) == Some(State::On)
}

/// Starts a vCPU, for the first time or again. Call it on vCPU 0.
///
/// # Errors
/// [`Error::On`], also as long as it is stopping; [`Error::First`]; [`Error::NoStack`];
/// what the monitor answers: [`abi::psci::Error::InvalidParameters`] or `ENOENT` if there is no such
/// vCPU.
pub fn start(vcpu: VcpuId) -> Result<(), Error> {
    match state(vcpu) {
        _ if vcpu.0 == 0 => return Err(Error::First),
        Some(State::On | State::Stopping) => return Err(Error::On),
        Some(State::Off) | None => {}
    }
    wakeups::connect()?;
    let (entry, context) = secondary::prepare(vcpu)?.start.entry();
    firmware::switch_on(vcpu, entry, context)?;
    set_state(vcpu, State::On);
    Ok(())
}

/// Stops a vCPU after it has done what it was given. Returns when it is off. Call it on vCPU 0.
///
/// # Errors
/// [`Error::Off`], also if it is stopping already; [`Error::First`].
pub async fn stop(vcpu: VcpuId) -> Result<(), Error> {
    if vcpu.0 == 0 {
        return Err(Error::First);
    }
    post(vcpu, Job::Stop)?;
    set_state(vcpu, State::Stopping);
    while affinity_info(vcpu)? == Affinity::On {
        time::sleep(PATIENCE).await;
    }
    // Xen says so a moment before the vCPU has left its CPU. Started in that moment, it would go on
    // with the registers that it had.
    time::sleep(PATIENCE).await;
    set_state(vcpu, State::Off);
    Ok(())
}

/// Gives a job to a vCPU that is on.
pub(super) fn post(vcpu: VcpuId, job: Job) -> Result<(), Error> {
    if !is_on(vcpu) {
        return Err(Error::Off);
    }
    let record = secondary::find(vcpu).ok_or(Error::Off)?;
    if record.mailbox.push(job) {
        record.notify();
    }
    Ok(())
}

fn state(vcpu: VcpuId) -> Option<State> {
    STATES.with(|states| states.borrow().get(vcpu.0 as usize).copied())
}

fn set_state(vcpu: VcpuId, state: State) {
    STATES.with(|states| {
        if let Some(place) = states.borrow_mut().get_mut(vcpu.0 as usize) {
            *place = state;
        }
    });
}
