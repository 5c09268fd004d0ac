//! What a vCPU other than vCPU 0 does: it waits for jobs, and counts what interrupts it.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use abi::shared_info::VcpuInfo;
use abi::vcpu::RegisterVcpuInfo;
use abi::{Errno, Port, VcpuId};

use super::MAX_VCPUS;
use super::error::Error;
use super::firmware;
use super::mailbox::{Job, Mailbox};
use crate::hypercall::event_channel;
use crate::local::StaysHome;
use crate::shared::SharedPage;
use crate::time::Ticks;
use crate::{event, hypercall, machine, time};

/// How often a vCPU was interrupted by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events that were announced by the interrupt for it.
    pub events: u64,
    /// SGIs.
    pub sgis: u64,
    /// Its timer.
    pub timers: u64,
}

/// A vCPU's record, which stays when it goes off.
#[derive(Debug)]
pub(super) struct Secondary {
    pub(super) mailbox: Mailbox<Job>,
    /// What it reads when it starts.
    pub(super) start: machine::Start,
    /// Where the monitor announces events to it, from the page's start.
    info: SharedPage,
    port: Port,
    events: AtomicU64,
    sgis: AtomicU64,
    timers: AtomicU64,
}

static SECONDARIES: [spin::Once<Secondary>; MAX_VCPUS] = [const { spin::Once::new() }; MAX_VCPUS];

/// The record of a vCPU that was started once.
pub(super) fn find(vcpu: VcpuId) -> Option<&'static Secondary> {
    SECONDARIES.get(vcpu.0 as usize)?.get()
}

/// The same for one that is to be started.
pub(super) fn prepare(vcpu: VcpuId) -> Result<&'static Secondary, Error> {
    let place = SECONDARIES.get(vcpu.0 as usize).ok_or(Errno::ENOENT)?;
    place.try_call_once(|| Secondary::new(vcpu))
}

impl Secondary {
    fn new(vcpu: VcpuId) -> Result<Secondary, Error> {
        let start = machine::Start::new(vcpu.0, main).ok_or(Error::NoStack)?;
        let info = SharedPage::allocate().map_err(Errno::from)?;
        let place = RegisterVcpuInfo { gfn: info.gfn(), offset: 0, padding: 0 };
        // SAFETY: the page is used for nothing else, and kept.
        unsafe { hypercall::vcpu::register_info(vcpu, place)? };
        let port = event_channel::bind_ipi(vcpu)?;
        event::leave_to_other_vcpu(port);
        let [events, sgis, timers] = [const { AtomicU64::new(0) }; 3];
        Ok(Secondary { mailbox: Mailbox::new(), start, info, port, events, sgis, timers })
    }

    /// Interrupts the vCPU.
    pub(super) fn notify(&self) {
        // It cannot fail: the port is this domain's own, and never closed.
        let _ = event_channel::send(self.port);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            events: self.events.load(Ordering::Acquire),
            sgis: self.sgis.load(Ordering::Acquire),
            timers: self.timers.load(Ordering::Acquire),
        }
    }

    /// Takes what interrupts this vCPU.
    fn take_interrupts(&self) {
        let interrupts = machine::private_interrupts();
        while let Some(intid) = machine::acknowledge_interrupt() {
            machine::deactivate_interrupt(intid);
            let counter = match intid {
                0..16 => &self.sgis,
                _ if intid == interrupts.timer => &self.timers,
                _ if intid == interrupts.events => {
                    self.take_event();
                    &self.events
                }
                _ => continue,
            };
            counter.fetch_add(1, Ordering::Release);
        }
    }

    /// It has one port, so that there is nothing to look for.
    fn take_event(&self) {
        let upcall_pending = offset_of!(VcpuInfo, upcall_pending);
        let selector = offset_of!(VcpuInfo, pending_selector);
        self.info.store_u8(upcall_pending, 0, Ordering::Relaxed);
        self.info.swap_u64(selector, 0, Ordering::AcqRel);
        event::take_port(self.port);
    }
}

/// The vCPU on which a closure runs: a value of this type exists on that vCPU only.
#[derive(Debug)]
pub struct Vcpu {
    id: VcpuId,
    record: &'static Secondary,
    _stays_home: StaysHome,
}

impl Vcpu {
    /// Which.
    pub fn id(&self) -> VcpuId {
        self.id
    }

    /// What has interrupted it.
    pub fn counts(&self) -> Counts {
        self.record.counts()
    }

    /// Waits, in WFI, until an interrupt has come.
    pub fn wait_for_interrupt(&self) {
        machine::wait(None);
        self.record.take_interrupts();
    }

    /// Waits, in WFI, until `done`, which an interrupt must announce.
    pub fn wait_until(&self, mut done: impl FnMut() -> bool) {
        while !done() {
            self.wait_for_interrupt();
        }
    }

    /// Waits for this long, in WFI.
    pub fn sleep(&self, duration: Duration) {
        let deadline = Ticks::until(time::now().saturating_add(duration));
        while machine::ticks() < deadline {
            machine::wait(Some(deadline));
            self.record.take_interrupts();
        }
    }

    /// Does what it is given, until it is to go off.
    fn serve(&self) {
        let mailbox = &self.record.mailbox;
        loop {
            match mailbox.pop() {
                Some(Job::Run(job)) => job(self),
                Some(Job::Stop) => return,
                None => {
                    mailbox.sleep_if_empty(|| machine::wait(None));
                    self.record.take_interrupts();
                }
            }
        }
    }
}

/// Where a vCPU begins, on its own stack.
extern "C" fn main(vcpu: u32) -> ! {
    let id = VcpuId(vcpu);
    if let Some(record) = find(id) {
        // An upcall that was not taken when the vCPU went off is not announced again.
        record.take_event();
        Vcpu { id, record, _stays_home: StaysHome::new() }.serve();
    }
    firmware::switch_off()
}
