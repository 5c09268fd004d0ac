//! Accesses to guest-physical addresses at which no memory is: those that belong to the virtual
//! interrupt controller and to the domain's UART are performed, the others are answered with an
//! abort.

use super::access::Access;
use super::exit::{count, load_register, register, skip_instruction, take};
use super::{finish, give_up, monitor, uart};
use crate::allocator::Monitor;
use crate::allocator::domain::Domain;
use crate::allocator::interrupt::Loaded;
use crate::interpreter::exception::{DataAbort, Fault};
use crate::interpreter::redistributor::{self, Identity};
use crate::interpreter::{Width, distributor};
use crate::machine::context::{self, Context};
use crate::machine::lock::Guard;
use crate::machine::percpu;
use crate::machine::vectors::Resume;
use crate::types::{Ipa, MAX_VCPUS, VcpuKey};

/// Bytes of the distributor's frame.
const DISTRIBUTOR_SIZE: u64 = 0x1_0000;

/// A part of the interrupt controller.
enum Device {
    Distributor { offset: u64 },
    Redistributor { vcpu: u32, offset: u64 },
}

/// Handles a data abort at stage 2. Reads of what never changes are on the short way: without the
/// lock, and without calls, for which registers would have to be saved.
pub(super) extern "C" fn data_abort(context: &mut Context, iss: u64) -> Resume {
    count(&mut context.exits.mmio);
    let offset = fault_address().0.wrapping_sub(context.identity.gicd_base);
    if let Some(value) = distributor::constant(offset)
        && let Some(access) = Access::decode(iss)
        && !access.is_write
    {
        return load_register(context, access.register, access.extend(value));
    }
    other_data_abort(context, iss)
}

fn fault_address() -> Ipa {
    Ipa(context::fault_page().0 | context::far() & 0xFFF)
}

#[inline(never)]
fn other_data_abort(context: &mut Context, iss: u64) -> Resume {
    let address = fault_address();
    let caller = percpu::running();
    let mut monitor = monitor();
    let domain = monitor.domains.get_mut(caller.domain);
    let Some((domain, device)) = domain.and_then(|domain| find(domain, address)) else {
        return elsewhere(monitor, context, caller, address, iss);
    };
    let Some(access) = Access::decode(iss) else { return abort(iss) };
    if access.is_write {
        let value = access.width.truncate(register(context, access.register));
        return perform_write(monitor, caller, &device, access.width, value);
    }
    let value = read(domain, caller, &device, access.width);
    load_register(context, access.register, access.extend(value))
}

fn abort(iss: u64) -> Resume {
    take(Fault::DataAbort(DataAbort::from_bits_truncate(iss)))
}

/// Where no register of the interrupt controller is.
#[inline(never)]
fn elsewhere(
    monitor: Guard<'static, Monitor>,
    context: &mut Context,
    caller: VcpuKey,
    address: Ipa,
    iss: u64,
) -> Resume {
    let Some(domain) = monitor.domains.get(caller.domain) else { return abort(iss) };
    if let Some(offset) = uart::register_at(domain, address) {
        let Some(access) = Access::decode(iss) else { return abort(iss) };
        return uart::access(monitor, context, caller, access, offset);
    }
    if is_mapped(domain, address, iss) { Resume::Guest } else { abort(iss) }
}

/// Writes a register, and has what became deliverable by it delivered.
#[inline(never)]
fn perform_write(
    mut monitor: Guard<'static, Monitor>,
    caller: VcpuKey,
    device: &Device,
    width: Width,
    value: u64,
) -> Resume {
    let Some(domain) = monitor.domains.get_mut(caller.domain) else {
        return give_up(monitor);
    };
    write(domain, caller, device, width, value);
    // It may be pending for this vCPU or for another.
    let vcpus: heapless::Vec<_, MAX_VCPUS> = domain.all_vcpus().map(|vcpu| vcpu.key).collect();
    for vcpu in vcpus {
        monitor.look_at_interrupts(vcpu);
    }
    skip_instruction();
    finish(monitor)
}

/// Whether the address has been mapped by now: another CPU that changes a mapping first breaks it
/// for a moment (Arm ARM D8.16.1, break-before-make), and this access fell into that moment.
pub(super) fn is_mapped(domain: &Domain, address: Ipa, iss: u64) -> bool {
    const STATUS_TYPE: u64 = 0b11_1100;
    const TRANSLATION_FAULT: u64 = 0b00_0100;
    iss & STATUS_TYPE == TRANSLATION_FAULT
        && domain.stage2.lookup(abi::Gfn::containing(address.0)).is_some()
}

/// What is at an address.
fn find(domain: &mut Domain, address: Ipa) -> Option<(&mut Domain, Device)> {
    if let Some(offset) = address.0.checked_sub(domain.gicd_base.0)
        && offset < DISTRIBUTOR_SIZE
    {
        return Some((domain, Device::Distributor { offset }));
    }
    let offset = address.0.checked_sub(domain.gicr_base.0)?;
    let vcpu = u32::try_from(offset / redistributor::STRIDE).ok()?;
    domain.vcpu(abi::VcpuId(vcpu))?;
    Some((domain, Device::Redistributor { vcpu, offset: offset % redistributor::STRIDE }))
}

fn read(domain: &mut Domain, caller: VcpuKey, device: &Device, width: Width) -> u64 {
    let (interrupts, records) = (&mut domain.interrupts, &mut domain.vcpus);
    let mut registers = Loaded;
    match *device {
        Device::Distributor { offset } => {
            let own = records.get(caller.vcpu.0 as usize).and_then(Option::as_ref);
            let listed = own.map(|vcpu| (&vcpu.interrupts.listed, &mut registers));
            distributor::read(interrupts, listed, offset, width)
        }
        Device::Redistributor { vcpu, offset } => {
            let last = records.get(vcpu as usize + 1).is_none_or(Option::is_none);
            let Some(Some(target)) = records.get_mut(vcpu as usize) else { return 0 };
            let state = &mut target.interrupts;
            let listed = (vcpu == caller.vcpu.0).then_some((&state.listed, &mut registers));
            let identity = Identity { vcpu, last };
            redistributor::read(identity, &mut state.private, listed, offset, width)
        }
    }
}

fn write(domain: &mut Domain, caller: VcpuKey, device: &Device, width: Width, value: u64) {
    let vcpus = domain.max_vcpus() as usize;
    let (interrupts, records) = (&mut domain.interrupts, &mut domain.vcpus);
    let mut registers = Loaded;
    match *device {
        Device::Distributor { offset } => {
            let own = records.get(caller.vcpu.0 as usize).and_then(Option::as_ref);
            let listed = own.map(|vcpu| (&vcpu.interrupts.listed, &mut registers));
            distributor::write(interrupts, vcpus, listed, offset, width, value);
        }
        Device::Redistributor { vcpu, offset } => {
            let Some(Some(target)) = records.get_mut(vcpu as usize) else { return };
            let state = &mut target.interrupts;
            let listed = (vcpu == caller.vcpu.0).then_some((&state.listed, &mut registers));
            redistributor::write(&mut state.private, listed, offset, width, value);
        }
    }
}
