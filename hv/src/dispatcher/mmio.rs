//! Accesses to guest-physical addresses at which no memory is: those that belong to the virtual
//! interrupt controller and to the domain's UART are performed, the others are answered with an
//! abort.

use abi::DomId;
use abi::guest_map::{UART_BASE, UART_INTID, UART_SIZE};
use abi::hvm::Index;

use super::exit::{count, load_register, register, skip_instruction, take};
use super::{finish, give_up, monitor};
use crate::allocator::console::Console;
use crate::allocator::domain::Domain;
use crate::allocator::interrupt::Loaded;
use crate::allocator::{Monitor, uart};
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

/// A load or store, as the syndrome of a data abort describes it (Arm ARM D24.2.40, ISV = 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    width: Width,
    /// The general register that receives or gives the value.
    register: usize,
    is_write: bool,
    sign_extend: bool,
    /// Whether the register is 64 bits wide, which matters to a sign.
    register_is_64_bits: bool,
}

impl Access {
    /// `None` if the instruction is one that the syndrome does not describe (pairs, write-back).
    fn decode(iss: u64) -> Option<Access> {
        const VALID: u64 = 1 << 24;
        if iss & VALID == 0 {
            return None;
        }
        let width = match (iss >> 22) & 0b11 {
            0 => Width::Byte,
            1 => Width::HalfWord,
            2 => Width::Word,
            _ => Width::DoubleWord,
        };
        Some(Access {
            width,
            register: ((iss >> 16) & 0x1F) as usize,
            is_write: iss & (1 << 6) != 0,
            sign_extend: iss & (1 << 21) != 0,
            register_is_64_bits: iss & (1 << 15) != 0,
        })
    }

    /// What the register holds after a load of `value`.
    fn extend(self, value: u64) -> u64 {
        let value = self.width.truncate(value);
        let sign = 1 << (8 * self.width.bytes() - 1);
        if !self.sign_extend || value & sign == 0 {
            return value;
        }
        let extended = value | !(sign | (sign - 1));
        if self.register_is_64_bits { extended } else { extended & 0xFFFF_FFFF }
    }
}

/// Something at a guest-physical address.
enum Device {
    Distributor { offset: u64 },
    Redistributor { vcpu: u32, offset: u64 },
    Uart { offset: u64 },
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
        return no_device(&monitor, caller, address, iss);
    };
    let Some(access) = Access::decode(iss) else { return abort(iss) };
    if let Device::Uart { offset } = device {
        return access_uart(monitor, context, caller, access, offset);
    }
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

#[inline(never)]
fn no_device(monitor: &Monitor, caller: VcpuKey, address: Ipa, iss: u64) -> Resume {
    let domain = monitor.domains.get(caller.domain);
    match domain.is_some_and(|domain| is_mapped(domain, address, iss)) {
        true => Resume::Guest,
        false => abort(iss),
    }
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

/// Reads or writes a register of the domain's UART.
#[inline(never)]
fn access_uart(
    mut monitor: Guard<'static, Monitor>,
    context: &mut Context,
    caller: VcpuKey,
    access: Access,
    offset: u64,
) -> Resume {
    let console = Console::of(&monitor, caller.domain);
    let domain = monitor.domains.get_mut(caller.domain);
    let (Some(mut console), Some(domain)) = (console, domain) else { return give_up(monitor) };
    let resume = if access.is_write {
        domain.uart.write(&mut console, offset, register(context, access.register) as u32);
        skip_instruction();
        Resume::Guest
    } else {
        let value = domain.uart.read(&mut console, offset);
        load_register(context, access.register, access.extend(value.into()))
    };
    if offset == uart::DATA {
        console.notify(&mut monitor, caller.domain);
    }
    look_at_uart(&mut monitor, caller.domain);
    match finish(monitor) {
        Resume::Guest => resume,
        other => other,
    }
}

/// Raises the interrupt of a domain's UART if there is a new reason: dom0, too, moves characters.
pub(super) fn look_at_uart(monitor: &mut Monitor, id: DomId) {
    let Some(console) = Console::of(monitor, id) else { return };
    let Some(domain) = monitor.domains.get_mut(id) else { return };
    if domain.uart.interrupts(&console) {
        monitor.raise_shared(id, UART_INTID);
    }
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
    if let Some(offset) = address.0.checked_sub(UART_BASE)
        && offset < UART_SIZE
        && !domain.privileged
        && domain.parameters.get(Index::ConsolePfn) != 0
    {
        return Some((domain, Device::Uart { offset }));
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
        Device::Uart { .. } => 0,
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
        Device::Uart { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_byte_load_extends_to_its_register() {
        // LDRSB w3, [x0]
        let access = Access::decode(1 << 24 | 1 << 21 | 3 << 16).expect("the syndrome is valid");
        assert_eq!((access.register, access.is_write), (3, false));
        assert_eq!(access.extend(0x180), 0xFFFF_FF80);
        let wide = Access { register_is_64_bits: true, ..access };
        assert_eq!(wide.extend(0x80), 0xFFFF_FFFF_FFFF_FF80);
    }

    #[test]
    fn a_load_pair_is_not_described() {
        assert_eq!(Access::decode(1 << 6), None);
    }
}
