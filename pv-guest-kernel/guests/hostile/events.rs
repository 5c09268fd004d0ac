//! Event channels that do not exist, or are someone else's.

use alloc::vec::Vec;

use pv_guest_kernel::abi::Errno::{self, EINVAL, ENOENT, ENOSPC, EPERM, ESRCH};
use pv_guest_kernel::abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Command, PortOnly, Reset, Status,
};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::{DomId, Port, VcpuId};

use crate::border::{Border, address, hypercall};

/// No port has any of these: the first never has, the others lie beyond the last.
const PORTS: [Port; 4] = [Port(0), Port(4096), Port(1 << 17), Port(u32::MAX)];
/// No domain has this identifier.
const NOBODY: DomId = DomId(4711);

/// Tries them.
pub fn attempts(border: &mut Border) {
    bad_ports(border);
    others_ports(border);
    bad_vcpus(border);
    every_port(border);
}

fn attempt<T>(border: &mut Border, what: &str, command: Command, argument: T, reasons: &[Errno]) {
    border.command(what, Number::EventChannelOp, command.raw(), argument, reasons);
}

fn bad_ports(border: &mut Border) {
    for port in PORTS {
        attempt(border, "send to no port", Command::Send, PortOnly { port }, &[EINVAL]);
        attempt(border, "close no port", Command::Close, PortOnly { port }, &[EINVAL]);
        let bind = BindVcpu { port, vcpu: VcpuId(0) };
        attempt(border, "move no port", Command::BindVcpu, bind, &[EINVAL]);
        let bind = BindInterdomain { remote: DomId::DOM0, remote_port: port, ..Default::default() };
        attempt(border, "bind to no port", Command::BindInterdomain, bind, &[EINVAL]);
    }
    // The first one exists as a place, though it is never anyone's.
    for port in PORTS.into_iter().skip(1) {
        attempt(border, "unmask no port", Command::Unmask, PortOnly { port }, &[EINVAL]);
        let status = Status { dom: DomId::SELF, port, ..Default::default() };
        attempt(border, "status of no port", Command::Status, status, &[EINVAL]);
    }
}

fn others_ports(border: &mut Border) {
    let dom = DomId::DOM0;
    // All of dom0's ports that there may be: none waits for this domain but those it has.
    let open = (1..64).filter(|&port| {
        let mut bind =
            BindInterdomain { remote: dom, remote_port: Port(port), ..Default::default() };
        let arguments = [Command::BindInterdomain.raw(), address(&mut bind), 0, 0, 0];
        hypercall(Number::EventChannelOp.raw(), arguments) >= 0
    });
    let count = open.count() as i64;
    border.note("dom0's ports", count, count == 0);
    let status = Status { dom, port: Port(1), ..Default::default() };
    attempt(border, "status of dom0's port", Command::Status, status, &[EPERM]);
    let unbound = AllocUnbound { dom, remote: DomId::SELF, ..Default::default() };
    attempt(border, "a port for dom0", Command::AllocUnbound, unbound, &[EPERM]);
    attempt(border, "reset dom0", Command::Reset, Reset { dom }, &[EPERM]);
    let bind = BindInterdomain { remote: NOBODY, remote_port: Port(1), ..Default::default() };
    attempt(border, "bind to nobody", Command::BindInterdomain, bind, &[ESRCH, EINVAL]);
}

fn bad_vcpus(border: &mut Border) {
    for vcpu in [VcpuId(1), VcpuId(128), VcpuId(u32::MAX)] {
        let ipi = BindIpi { vcpu, ..Default::default() };
        attempt(border, "interrupt no vCPU", Command::BindIpi, ipi, &[ENOENT, EINVAL]);
        let virq = BindVirq { vcpu, ..Default::default() };
        attempt(border, "timer of no vCPU", Command::BindVirq, virq, &[ENOENT, EINVAL]);
    }
    let virq = BindVirq { virq: u32::MAX, ..Default::default() };
    attempt(border, "unknown interrupt", Command::BindVirq, virq, &[EINVAL]);
}

/// Takes all ports that there are, and gives them back.
fn every_port(border: &mut Border) {
    let mut ports = Vec::new();
    let reason = loop {
        let mut unbound =
            AllocUnbound { dom: DomId::SELF, remote: DomId::SELF, ..Default::default() };
        let arguments = [Command::AllocUnbound.raw(), address(&mut unbound), 0, 0, 0];
        let result = hypercall(Number::EventChannelOp.raw(), arguments);
        if result < 0 || ports.len() > 5000 {
            break result;
        }
        ports.push(unbound.port);
    };
    let reasons = [ENOSPC, Errno::ENOMEM].map(Errno::to_return);
    border.note("one port too many", reason, reasons.contains(&reason));
    let kept = ports.into_iter().filter(|&port| {
        let mut close = PortOnly { port };
        let arguments = [Command::Close.raw(), address(&mut close), 0, 0, 0];
        hypercall(Number::EventChannelOp.raw(), arguments) < 0
    });
    let kept = kept.count() as i64;
    border.note("all ports given back", kept, kept == 0);
}
