//! `xen_version`: what this monitor says it is.

use abi::version::{Capabilities, Command, ExtraVersion, FeatureInfo, Features, INTERFACE_VERSION};
use abi::{DomId, Errno};

use super::call::{Call, Outcome};
use crate::allocator::Monitor;
use crate::guest;
use crate::types::GuestVa;

/// What follows "4.17" in the version.
const EXTRA_VERSION: &[u8] = b".0-aurochs";
/// The one kind of guest that can run.
const CAPABILITIES: &[u8] = b"xen-3.0-aarch64 ";

/// The commands whose answer is the same for everyone: they need neither lock nor argument.
#[inline]
pub fn immediate(command: u64) -> Option<u64> {
    match Command::from_raw(command) {
        Some(Command::Version) => Some(INTERFACE_VERSION),
        Some(Command::PageSize) => Some(abi::PAGE_SIZE as u64),
        _ => None,
    }
}

/// `xen_version(command, argument)`
pub fn xen_version(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    if let Some(answer) = immediate(command) {
        return Outcome::Return(answer);
    }
    let argument = GuestVa(argument);
    let result = match Command::from_raw(command) {
        Some(Command::GetFeatures) => {
            get_features(call.monitor, call.caller.domain, argument).map(|()| 0)
        }
        Some(Command::ExtraVersion) => {
            text::<{ size_of::<ExtraVersion>() }>(call, argument, EXTRA_VERSION)
        }
        Some(Command::Capabilities) => {
            text::<{ size_of::<Capabilities>() }>(call, argument, CAPABILITIES)
        }
        Some(Command::Version | Command::PageSize) | None => Err(Errno::ENOSYS),
    };
    result.into()
}

/// What a domain may rely on. Leaves nothing behind to be settled.
#[inline(always)]
pub fn get_features(monitor: &mut Monitor, caller: DomId, argument: GuestVa) -> Result<(), Errno> {
    guest::update(monitor, argument, |monitor, info: &mut FeatureInfo| {
        if info.submap_index != 0 {
            return Err(Errno::EINVAL);
        }
        let domain = monitor.domains.get(caller).ok_or(Errno::ESRCH)?;
        let features = if domain.privileged { Features::DOM0_DIRECT } else { Features::DOMU };
        info.submap = features.bits();
        Ok(())
    })
}

/// Copies out a text, padded with NULs to `N` bytes.
#[inline(never)]
fn text<const N: usize>(call: &Call<'_>, to: GuestVa, text: &[u8]) -> Result<u64, Errno> {
    let mut padded = [0; N];
    for (byte, &character) in padded.iter_mut().zip(text) {
        *byte = character;
    }
    guest::write(call.monitor, to, &padded)?;
    Ok(0)
}
