//! `hvm_op`: a domain's parameters, set by the toolstack and read by the guest.

use abi::Errno;
use abi::hvm::{Command, Index, Param};

use super::call::{Call, Outcome};
use crate::guest;
use crate::types::GuestVa;

/// `hvm_op(command, parameter)`
pub fn hvm_op(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    let result = match Command::from_raw(command) {
        Some(Command::GetParam) => get(call, argument),
        Some(Command::SetParam) => set(call, argument),
        None => Err(Errno::ENOSYS),
    };
    result.into()
}

fn get(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    let mut param: Param = guest::read(call.monitor, argument)?;
    let domain = call.resolve(param.domid)?;
    let index = Index::from_raw(param.index).ok_or(Errno::EINVAL)?;
    if index == Index::MonitorRingPfn && domain == call.caller.domain {
        return Err(Errno::EPERM);
    }
    let domain = call.monitor.domains.get(domain).ok_or(Errno::ESRCH)?;
    param.value = domain.parameters.get(index);
    guest::write(call.monitor, argument, &param)?;
    Ok(0)
}

/// Nobody sets his own.
fn set(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    let param: Param = guest::read(call.monitor, argument)?;
    let domain = call.resolve(param.domid)?;
    let index = Index::from_raw(param.index).ok_or(Errno::EINVAL)?;
    if domain == call.caller.domain {
        return Err(Errno::EPERM);
    }
    let domain = call.monitor.domains.get_mut(domain).ok_or(Errno::ESRCH)?;
    if domain.parameters.set(index, param.value) { Ok(0) } else { Err(Errno::EINVAL) }
}
