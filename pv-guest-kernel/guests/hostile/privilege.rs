//! What only the privileged domain may do.

use pv_guest_kernel::abi::Errno::{EINVAL, EPERM};
use pv_guest_kernel::abi::domctl::{self, Domctl};
use pv_guest_kernel::abi::hvm::{self, Param};
use pv_guest_kernel::abi::hypercall::Number;
use pv_guest_kernel::abi::memory::{
    self, AddToPhysmap, AddToPhysmapBatch, MapSpace, RemoveFromPhysmap, Reservation,
};
use pv_guest_kernel::abi::sched::{self, RemoteShutdown, ShutdownReason};
use pv_guest_kernel::abi::sysctl::{self, Sysctl};
use pv_guest_kernel::abi::{DomId, Gfn};

use crate::border::{Border, address, hypercall};

/// Where this guest would put what it must not have.
const PLACE: Gfn = Gfn(0x10_0000);

/// Tries it.
pub fn attempts(border: &mut Border) {
    toolstack(border);
    parameters(border);
    foreign_memory(border);
    others_memory(border);
    let argument =
        RemoteShutdown { dom: DomId::DOM0, reason: ShutdownReason::Crash.raw(), padding: 0 };
    let command = sched::Command::RemoteShutdown.raw();
    border.command("shut down dom0", Number::SchedOp, command, argument, &[EPERM]);
}

/// Commands of the toolstack, for dom0 and for this domain itself.
fn toolstack(border: &mut Border) {
    use domctl::Command;
    let commands = [
        Command::CreateDomain,
        Command::DestroyDomain,
        Command::PauseDomain,
        Command::GetDomainInfo,
        Command::MaxMemory,
        Command::SetVcpuContext,
    ];
    for command in commands.map(Command::raw) {
        for domain in [DomId::DOM0, DomId::SELF] {
            let interface_version = domctl::INTERFACE_VERSION;
            let mut argument =
                Domctl { command, interface_version, domain, padding: [0; 3], payload: [0; 128] };
            let arguments = [address(&mut argument), 0, 0, 0, 0];
            border.call("domctl", Number::Domctl.raw(), arguments, &[EPERM]);
        }
    }
    for command in [sysctl::Command::ReadConsole, sysctl::Command::GetDomainInfoList] {
        let interface_version = sysctl::INTERFACE_VERSION;
        let mut argument = Sysctl { command: command.raw(), interface_version, payload: [0; 128] };
        let arguments = [address(&mut argument), 0, 0, 0, 0];
        border.call("sysctl", Number::Sysctl.raw(), arguments, &[EPERM]);
    }
}

fn parameters(border: &mut Border) {
    let index = hvm::Index::StorePfn.raw();
    let (get, set) = (hvm::Command::GetParam.raw(), hvm::Command::SetParam.raw());
    let dom0s = Param { domid: DomId::DOM0, padding: 0, index, value: 1 };
    border.command("dom0's parameter", Number::HvmOp, get, dom0s, &[EPERM]);
    border.command("set dom0's parameter", Number::HvmOp, set, dom0s, &[EPERM]);
    let own = Param { domid: DomId::SELF, ..dom0s };
    border.command("set a parameter", Number::HvmOp, set, own, &[EPERM]);
    let unknown = Param { index: u32::MAX, ..own };
    border.command("unknown parameter", Number::HvmOp, get, unknown, &[EINVAL]);
}

/// Dom0's memory in this domain.
fn foreign_memory(border: &mut Border) {
    let (mut index, mut place, mut error) = (0x4_8000_u64, PLACE, 0_i32);
    let batch = AddToPhysmapBatch {
        domid: DomId::SELF,
        space: MapSpace::GmfnForeign.raw() as u16,
        size: 1,
        foreign_domid: DomId::DOM0,
        idxs: address(&mut index),
        gpfns: address(&mut place),
        errs: address(&mut error),
    };
    let command = memory::Command::AddToPhysmapBatch.raw();
    let result = border_result(command, batch);
    // Xen says it for each page, too.
    let refused = result == EPERM.to_return() || i64::from(error) == EPERM.to_return();
    border.note("map dom0's memory", result, refused);
}

fn border_result<T>(command: u64, mut argument: T) -> i64 {
    let arguments = [command, address(&mut argument), 0, 0, 0];
    crate::border::hypercall(Number::MemoryOp.raw(), arguments)
}

/// Dom0's own map.
fn others_memory(border: &mut Border) {
    let domid = DomId::DOM0;
    let add = AddToPhysmap { domid, size: 0, space: 0, idx: 0, gpfn: PLACE };
    let command = memory::Command::AddToPhysmap.raw();
    border.command("add to dom0's memory", Number::MemoryOp, command, add, &[EPERM]);
    let remove = RemoveFromPhysmap { domid, gpfn: Gfn(0x4_8000), ..Default::default() };
    let command = memory::Command::RemoveFromPhysmap.raw();
    border.command("remove dom0's memory", Number::MemoryOp, command, remove, &[EPERM]);
    let mut place = PLACE;
    let extent_start = address(&mut place);
    let populate = Reservation { domid, extent_start, nr_extents: 1, ..Default::default() };
    for command in [memory::Command::PopulatePhysmap, memory::Command::DecreaseReservation] {
        let mut populate = populate;
        let arguments = [command.raw(), address(&mut populate), 0, 0, 0];
        let done = hypercall(Number::MemoryOp.raw(), arguments);
        border.note("change dom0's reservation", done, done == 0);
    }
}
