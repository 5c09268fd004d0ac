//! What else a guest traps with: waiting, firmware calls, system registers, and accesses to
//! addresses at which no memory is. One entry for each exception class.

#![expect(unsafe_code, reason = "the vectors call entries by name, with a vCPU's own context")]

use super::exit::{count, load_register, register, skip_instruction, take};
use super::{finish, firmware, give_up, mmio, monitor, settle};
use crate::allocator::physical_timer::Register;
use crate::interpreter::exception::Fault;
use crate::interpreter::system_register::{self, Access, Effect, SgiRequest};
use crate::machine::context::{self, Context};
use crate::machine::vectors::{Resume, TRAP_TABLE_SIZE};
use crate::machine::{percpu, timer};

/// What the vectors jump to, with the syndrome. All general registers are in the context.
type Entry = extern "C" fn(&mut Context, u64) -> Resume;

/// The entries by exception class (ESR_EL2.EC, Arm ARM D24.2.40).
#[unsafe(no_mangle)]
static TRAP_ENTRIES: [Entry; TRAP_TABLE_SIZE] = {
    let mut table: [Entry; TRAP_TABLE_SIZE] = [undefined; TRAP_TABLE_SIZE];
    table[0x01] = wait;
    table[0x07] = floating_point;
    table[0x16] = firmware::hvc;
    table[0x17] = firmware::smc;
    table[0x18] = trapped_register;
    table[0x20] = instruction_abort;
    table[0x24] = mmio::data_abort;
    table
};

/// An instruction that guests do not have.
extern "C" fn undefined(_context: &mut Context, _syndrome: u64) -> Resume {
    take(Fault::Undefined)
}

/// Called by the vectors when a guest's access caused an asynchronous error. On this machine
/// nothing raises one: the guest takes the blame.
#[unsafe(no_mangle)]
extern "C" fn serror_entry(_context: &mut Context) -> Resume {
    let caller = percpu::running();
    log::error!("{caller}: asynchronous external abort; the domain is stopped");
    let mut monitor = monitor();
    monitor.shut_down_domain(caller.domain, abi::sched::ShutdownReason::Crash);
    settle(&mut monitor);
    give_up(monitor)
}

/// WFI or WFE.
extern "C" fn wait(context: &mut Context, syndrome: u64) -> Resume {
    /// ISS.TI: zero is WFI.
    const KIND: u64 = 0x3;
    count(&mut context.exits.waits);
    skip_instruction();
    if syndrome & KIND == 0 { wait_for_interrupt() } else { give_way() }
}

/// WFI: sleeps until an interrupt is pending. The virtual timer is one of those that wake it.
fn wait_for_interrupt() -> Resume {
    let mut monitor = monitor();
    let caller = percpu::running();
    if monitor.interrupt_waits(caller) || timer::virtual_timer::is_due() {
        return Resume::Guest;
    }
    monitor.sleep(None);
    give_up(monitor)
}

/// WFE: some other vCPU is to do something first.
#[inline(never)]
fn give_way() -> Resume {
    let mut monitor = monitor();
    monitor.scheduler.yield_slice(percpu::this_cpu());
    give_up(monitor)
}

/// The first use of floating point since this vCPU came to this CPU.
extern "C" fn floating_point(context: &mut Context, _syndrome: u64) -> Resume {
    count(&mut context.exits.floating_point);
    // SAFETY: the vectors came here with the vCPU whose context this is.
    if unsafe { context.switch_in_fp() } { Resume::Guest } else { take(Fault::Undefined) }
}

extern "C" fn instruction_abort(_context: &mut Context, syndrome: u64) -> Resume {
    let monitor = monitor();
    let domain = monitor.domains.get(percpu::running().domain);
    match domain.is_some_and(|domain| mmio::is_mapped(domain, context::fault_page(), syndrome)) {
        true => Resume::Guest,
        false => take(Fault::InstructionAbort),
    }
}

/// MRS or MSR. Identification registers and SGIs, which guests use when they run, are on the short
/// way: it calls nothing, hence saves no registers.
extern "C" fn trapped_register(context: &mut Context, syndrome: u64) -> Resume {
    count(&mut context.exits.system_registers);
    let access = Access::decode(syndrome);
    if let Some(value) = access.identification() {
        return load_register(context, access.rt, value);
    }
    if access.sends_sgi() {
        return send_sgi(context, access.rt);
    }
    other_register(context, syndrome)
}

#[inline(never)]
fn other_register(context: &mut Context, syndrome: u64) -> Resume {
    let access = Access::decode(syndrome);
    match system_register::access(access) {
        Effect::Value(value) => return load_register(context, access.rt, value),
        Effect::PhysicalTimer(register) => return physical_timer(context, access, register),
        Effect::Ignored => {}
        Effect::Undefined => return take(Fault::Undefined),
    }
    skip_instruction();
    Resume::Guest
}

/// CNTP_*_EL0. What is written takes effect at once in this CPU's timer.
fn physical_timer(context: &mut Context, access: Access, timer_register: Register) -> Resume {
    let caller = percpu::running();
    let mut monitor = monitor();
    let domain = monitor.domains.get_mut(caller.domain);
    let Some(vcpu) = domain.and_then(|domain| domain.vcpu_mut(caller.vcpu)) else {
        return give_up(monitor);
    };
    if access.is_read {
        let value = vcpu.physical_timer.read(timer_register, timer::now());
        return load_register(context, access.rt, value);
    }
    vcpu.physical_timer.write(timer_register, register(context, access.rt), timer::now());
    timer::set_physical_timer(vcpu.physical_timer.deadline());
    skip_instruction();
    Resume::Guest
}

#[inline(never)]
fn send_sgi(context: &Context, register_number: usize) -> Resume {
    let request = SgiRequest::decode(register(context, register_number));
    skip_instruction();
    let caller = percpu::running();
    let mut monitor = monitor();
    monitor.send_sgi(caller.domain, request.targets_from(caller.vcpu), request.intid);
    finish(monitor)
}
