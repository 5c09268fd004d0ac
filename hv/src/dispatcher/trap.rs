//! What else a guest traps with: waiting, firmware calls, system registers, and accesses to
//! addresses at which no memory is.

#![expect(unsafe_code, reason = "the vectors call an entry by its name")]

use abi::VcpuId;

use super::exit::{Next, Trap, skip_instruction};
use super::{fill_list_registers, mmio, monitor, schedule, settle};
use crate::allocator::Monitor;
use crate::interpreter::exception::{Entry, Fault};
use crate::interpreter::psci::{self, Affinity, Request};
use crate::interpreter::smccc;
use crate::interpreter::system_register::{self, Access, Effect, SgiRequest, SgiTargets};
use crate::machine::context::{self, Context};
use crate::machine::{guest_exception, list_register, percpu, timer};
use crate::types::VcpuKey;

/// Exception classes (ESR_EL2.EC, Arm ARM D24.2.40).
mod class {
    pub(super) const WAIT: u64 = 0x01;
    pub(super) const HVC: u64 = 0x16;
    pub(super) const SMC: u64 = 0x17;
    pub(super) const SYSTEM_REGISTER: u64 = 0x18;
    pub(super) const INSTRUCTION_ABORT: u64 = 0x20;
    pub(super) const DATA_ABORT: u64 = 0x24;
}

const CLASS_SHIFT: u32 = 26;
/// ESR_EL2.ISS
const ISS_MASK: u64 = 0x1FF_FFFF;
/// ISS of a WFI or WFE: zero is WFI.
const WAIT_KIND_MASK: u64 = 0x3;
/// ISS of an HVC or SMC: the immediate.
const IMMEDIATE_MASK: u64 = 0xFFFF;

/// Called by the vectors for every synchronous exception from a guest but hypercalls. Returns
/// whether the vCPU gives up the CPU.
#[unsafe(no_mangle)]
extern "C" fn sync_entry(context: &mut Context, esr: u64) -> u64 {
    let Some(caller) = percpu::running() else { return 1 };
    let mut trap = Trap { context, caller };
    match trap.handle(esr >> CLASS_SHIFT, esr & ISS_MASK) {
        Next::Resume => 0,
        Next::GiveUp => 1,
        Next::Take(fault) => {
            take(fault);
            0
        }
    }
}

/// Called by the vectors when a guest's access caused an asynchronous error. On this machine
/// nothing raises one: the guest takes the blame.
#[unsafe(no_mangle)]
extern "C" fn serror_entry(_context: &mut Context) -> u64 {
    let Some(caller) = percpu::running() else { return 1 };
    log::error!("{caller}: asynchronous external abort; the domain is stopped");
    monitor().shut_down_domain(caller.domain, abi::sched::ShutdownReason::Crash);
    1
}

#[inline(never)]
fn take(fault: Fault) {
    let entry = Entry::synchronous(fault, context::spsr());
    guest_exception::enter(entry.vector, entry.syndrome, context::far(), entry.pstate);
}

/// Counts an exit.
fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}

/// What is not on the way of a register access is out of line: the registers that it would have to
/// save cost that access more than the access itself.
impl Trap<'_> {
    #[inline(always)]
    fn handle(&mut self, class: u64, iss: u64) -> Next {
        let exits = &mut self.context.exits;
        match class {
            class::WAIT => {
                count(&mut exits.waits);
                skip_instruction();
                if iss & WAIT_KIND_MASK == 0 { self.wait_for_interrupt() } else { self.give_way() }
            }
            class::HVC if iss & IMMEDIATE_MASK == 0 => {
                count(&mut exits.firmware_calls);
                self.firmware_call()
            }
            class::SMC => {
                count(&mut exits.firmware_calls);
                skip_instruction();
                self.firmware_call()
            }
            class::SYSTEM_REGISTER => {
                count(&mut exits.system_registers);
                self.system_register(Access::decode(iss))
            }
            class::DATA_ABORT => {
                count(&mut exits.mmio);
                mmio::data_abort(self, iss)
            }
            class::INSTRUCTION_ABORT => self.instruction_abort(iss),
            _ => Next::Take(Fault::Undefined),
        }
    }

    #[inline(never)]
    fn instruction_abort(&self, iss: u64) -> Next {
        let monitor = monitor();
        let domain = monitor.domains.get(self.caller.domain);
        match domain.is_some_and(|domain| mmio::is_mapped(domain, context::fault_page(), iss)) {
            true => Next::Resume,
            false => Next::Take(Fault::InstructionAbort),
        }
    }

    /// WFI: sleeps until an interrupt is pending, or until the virtual timer would raise one.
    #[inline(never)]
    fn wait_for_interrupt(&mut self) -> Next {
        let mut monitor = monitor();
        fill_list_registers(&mut monitor, self.caller);
        if list_register::any_pending() {
            return Next::Resume;
        }
        let deadline = timer::virtual_timer::deadline();
        if deadline.is_some_and(|deadline| deadline <= timer::now()) {
            return Next::Resume;
        }
        monitor.block_vcpu(self.caller, deadline);
        Next::GiveUp
    }

    /// WFE: some other vCPU is to do something first.
    #[inline(never)]
    fn give_way(&mut self) -> Next {
        monitor().scheduler.yield_slice(percpu::this_cpu());
        Next::GiveUp
    }

    /// `HVC #0` or an SMC: PSCI, otherwise what else the SMC calling convention has.
    #[inline(never)]
    fn firmware_call(&mut self) -> Next {
        let [x0, x1, x2, x3, ..] = self.context.x;
        let Some(request) = psci::decode([x0, x1, x2, x3]) else {
            self.context.x[..4].copy_from_slice(&smccc::answer(x0, x1));
            return Next::Resume;
        };
        match request {
            Request::Answer(value) => self.answer(value),
            Request::CpuOn { target, entry, context } => {
                let result = self.cpu_on(target, entry, context);
                self.answer(result.map_or_else(psci::Error::to_register, |()| 0))
            }
            Request::AffinityInfo { target } => {
                let vcpu = self.vcpu_with_affinity(&monitor(), target);
                let affinity = vcpu.map(|vcpu| match vcpu {
                    (_, true) => Affinity::On as u64,
                    (_, false) => Affinity::Off as u64,
                });
                self.answer(affinity.unwrap_or(psci::Error::InvalidParameters.to_register()))
            }
            Request::CpuOff => {
                monitor().stop_vcpu(self.caller);
                Next::GiveUp
            }
            Request::Shutdown(reason) => {
                let mut monitor = monitor();
                super::sched::stop_domain(&mut monitor, self.caller.domain, reason);
                settle(&mut monitor);
                Next::GiveUp
            }
        }
    }

    fn answer(&mut self, value: u64) -> Next {
        self.context.x[0] = value;
        Next::Resume
    }

    /// The vCPU of the caller's domain with this affinity, and whether it is online.
    fn vcpu_with_affinity(&self, monitor: &Monitor, affinity: u64) -> Option<(VcpuKey, bool)> {
        let domain = monitor.domains.get(self.caller.domain)?;
        let vcpu = domain.vcpu(VcpuId(u32::try_from(affinity).ok()?))?;
        Some((vcpu.key, vcpu.online))
    }

    fn cpu_on(&mut self, target: u64, entry: u64, argument: u64) -> Result<(), psci::Error> {
        let mut monitor = monitor();
        match self.vcpu_with_affinity(&monitor, target) {
            None => Err(psci::Error::InvalidParameters),
            Some((_, true)) => Err(psci::Error::AlreadyOn),
            Some((key, false)) => {
                let started = schedule::start_vcpu(&mut monitor, key, entry, argument);
                settle(&mut monitor);
                started.map_err(|_| psci::Error::AlreadyOn)
            }
        }
    }

    fn system_register(&mut self, access: Access) -> Next {
        let effect = system_register::access(access, self.register(access.rt));
        match effect {
            Effect::Value(value) => self.set_register(access.rt, value),
            Effect::Ignored => {}
            Effect::SendSgi(request) => self.send_sgi(request),
            Effect::Undefined => return Next::Take(Fault::Undefined),
        }
        skip_instruction();
        Next::Resume
    }

    #[inline(never)]
    fn send_sgi(&mut self, request: SgiRequest) {
        let targets = match request.targets {
            SgiTargets::List(list) => list.into(),
            SgiTargets::AllOthers => !(1 << (self.caller.vcpu.0 % u32::BITS)),
        };
        let mut monitor = monitor();
        monitor.send_sgi(self.caller.domain, targets, request.intid);
        settle(&mut monitor);
    }
}
