//! `sysctl`: what the toolstack asks of the machine. For the privileged domain only.

use abi::Errno;
use abi::sysctl::{
    Command, DebugKeys, DomainInfoList, INTERFACE_VERSION, PhysInfo, ReadConsole, Sysctl,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::{Call, Outcome};
use super::debug_keys;
use crate::allocator::MAX_DOMAINS;
use crate::guest;
use crate::machine::{log, timer};
use crate::types::GuestVa;

/// Bytes of the log that are copied at a time.
const CHUNK: usize = 256;
/// Debug keys that may be pressed in one call.
const MAX_KEYS: usize = 16;

/// `sysctl(argument)`
pub fn sysctl(call: &mut Call<'_>) -> Outcome {
    perform(call).into()
}

fn perform(call: &mut Call<'_>) -> Result<u64, Errno> {
    call.privileged()?;
    let argument = GuestVa(call.args[0]);
    let mut sysctl: Sysctl = guest::read(call.monitor, argument)?;
    if sysctl.interface_version != INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    match Command::from_raw(sysctl.command).ok_or(Errno::ENOSYS)? {
        Command::ReadConsole => {
            let mut request: ReadConsole = payload(&sysctl)?;
            read_console(call, &mut request)?;
            set_payload(&mut sysctl, &request)?;
        }
        Command::PhysInfo => set_payload(&mut sysctl, &physical_information(call))?,
        Command::GetDomainInfoList => {
            let mut request: DomainInfoList = payload(&sysctl)?;
            list_domains(call, &mut request)?;
            set_payload(&mut sysctl, &request)?;
        }
        Command::DebugKeys => return press(call, &payload(&sysctl)?),
    }
    guest::write(call.monitor, argument, &sysctl)?;
    Ok(0)
}

fn physical_information(call: &Call<'_>) -> PhysInfo {
    let monitor = &call.monitor;
    PhysInfo {
        cpus: monitor.scheduler.online().map(|_| 1).sum(),
        counter_hertz: u32::try_from(timer::frequency()).unwrap_or(u32::MAX),
        total_frames: monitor.frames.total(),
        free_frames: monitor.frames.free(),
        domains: monitor.domains.iter().map(|_| 1).sum(),
        padding: 0,
        ipis: monitor.ipis,
    }
}

/// Presses keys. All or none: a key that is not known is `EINVAL`.
fn press(call: &Call<'_>, request: &DebugKeys) -> Result<u64, Errno> {
    let mut keys = [0; MAX_KEYS];
    let keys = keys.get_mut(..request.count as usize).ok_or(Errno::E2BIG)?;
    guest::read_bytes(call.monitor, GuestVa(request.keys), keys)?;
    if keys.iter().any(|&letter| debug_keys::find(letter).is_none()) {
        return Err(Errno::EINVAL);
    }
    for key in keys.iter().filter_map(|&letter| debug_keys::find(letter)) {
        debug_keys::press(key, call.monitor);
    }
    Ok(0)
}

/// Copies out what fits. Each call is bounded: the caller asks again from the new position.
fn read_console(call: &Call<'_>, request: &mut ReadConsole) -> Result<(), Errno> {
    let mut chunk = [0; CHUNK];
    let size = CHUNK.min(request.count as usize);
    let wanted = chunk.get_mut(..size).ok_or(Errno::EINVAL)?;
    let (count, position) = log::read(request.position, wanted);
    let text = chunk.get(..count).ok_or(Errno::EINVAL)?;
    guest::write_bytes(call.monitor, GuestVa(request.buffer), text)?;
    request.count = count as u32;
    request.position = position;
    Ok(())
}

/// Writes an element for each domain, dying ones included, that is not below `first`.
fn list_domains(call: &Call<'_>, request: &mut DomainInfoList) -> Result<(), Errno> {
    let buffer = GuestVa(request.buffer);
    let mut next = call.monitor.next_domain(request.first);
    request.count = 0;
    while let Some(id) = next
        && request.count < request.max_domains.min(MAX_DOMAINS as u32)
    {
        let info = call.monitor.domain_info(id, timer::now(), timer::to_nanoseconds);
        let index = u64::from(request.count);
        guest::write_element(call.monitor, buffer, index, &info.ok_or(Errno::ESRCH)?)?;
        request.count += 1;
        next = id.0.checked_add(1).and_then(|after| call.monitor.next_domain(abi::DomId(after)));
    }
    Ok(())
}

fn payload<T: FromBytes>(sysctl: &Sysctl) -> Result<T, Errno> {
    T::read_from_prefix(&sysctl.payload).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

fn set_payload<T: IntoBytes + Immutable>(sysctl: &mut Sysctl, value: &T) -> Result<(), Errno> {
    value.write_to_prefix(&mut sysctl.payload).map_err(|_| Errno::EINVAL)
}
