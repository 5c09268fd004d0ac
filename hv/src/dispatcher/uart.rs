//! A domain's UART, whose line is the domain's console: accesses to its registers, and its interrupt.

use abi::DomId;
use abi::guest_map::{UART_BASE, UART_INTID, UART_SIZE};
use abi::hvm::Index;

use super::access::Access;
use super::exit::{load_register, register, skip_instruction};
use super::{finish, give_up};
use crate::allocator::Monitor;
use crate::allocator::console::Console;
use crate::allocator::domain::Domain;
use crate::allocator::uart;
use crate::machine::context::Context;
use crate::machine::lock::Guard;
use crate::machine::vectors::Resume;
use crate::types::{Ipa, VcpuKey};

/// The offset of the register of the domain's UART that is at an address. A domain without a console
/// has no UART.
pub(super) fn register_at(domain: &Domain, address: Ipa) -> Option<u64> {
    let offset = address.0.checked_sub(UART_BASE).filter(|&offset| offset < UART_SIZE)?;
    let exists = !domain.privileged && domain.parameters.get(Index::ConsolePfn) != 0;
    exists.then_some(offset)
}

/// Reads or writes a register.
#[inline(never)]
pub(super) fn access(
    mut monitor: Guard<'static, Monitor>,
    context: &mut Context,
    caller: VcpuKey,
    access: Access,
    offset: u64,
) -> Resume {
    let console = Console::of(&monitor, caller.domain);
    let domain = monitor.domains.get_mut(caller.domain);
    let (Some(console), Some(domain)) = (console, domain) else { return give_up(monitor) };
    let resume = if access.is_write {
        domain.uart.write(console, offset, register(context, access.register) as u32);
        skip_instruction();
        Resume::Guest
    } else {
        let value = domain.uart.read(console, offset);
        load_register(context, access.register, access.extend(value.into()))
    };
    if offset == uart::DATA {
        console.notify(&mut monitor, caller.domain);
    }
    look_at_interrupt(&mut monitor, caller.domain);
    match finish(monitor) {
        Resume::Guest => resume,
        other => other,
    }
}

/// Raises the interrupt if there is a new reason: dom0, too, moves characters.
pub(super) fn look_at_interrupt(monitor: &mut Monitor, id: DomId) {
    let Some(console) = Console::of(monitor, id) else { return };
    let Some(domain) = monitor.domains.get_mut(id) else { return };
    if domain.uart.interrupts(console) {
        monitor.raise_shared(id, UART_INTID);
    }
}
