//! `xen_version`: what this monitor says it is.

use abi::version::{
    BuildId, Capabilities, Changeset, Command, CommandLine, CompileInfo, DENIED, DomainHandle,
    ExtraVersion, FeatureInfo, Features, INTERFACE_VERSION, PlatformParameters,
};
use abi::{DomId, Errno};
use spin::Once;

use super::call::{Call, Outcome};
use crate::allocator::Monitor;
use crate::guest;
use crate::types::GuestVa;

/// What follows "4.17" in the version.
const EXTRA_VERSION: &str = ".0-aurochs";
/// The one kind of guest that can run.
const CAPABILITIES: &str = "xen-3.0-aarch64 ";
/// What Xen says, too, when it was not built from a repository that knows its state.
const CHANGESET: &str = "unavailable";

/// What the boot loader told the monitor.
static COMMAND_LINE: Once<&'static str> = Once::new();

/// Notes what the boot loader told the monitor.
pub fn set_command_line(command_line: &'static str) {
    COMMAND_LINE.call_once(|| command_line);
}

/// The command whose answer is the same for everyone: it needs neither lock nor argument.
#[inline]
pub fn immediate(command: u64) -> Option<u64> {
    (command == Command::Version.raw()).then_some(INTERFACE_VERSION)
}

/// `xen_version(command, argument)`
pub fn xen_version(call: &mut Call<'_>) -> Outcome {
    match immediate(call.args[0]) {
        Some(answer) => Outcome::Return(answer),
        None => other(call),
    }
}

#[inline(never)]
fn other(call: &mut Call<'_>) -> Outcome {
    let [command, argument, ..] = *call.args;
    let argument = GuestVa(argument);
    let Some(command) = Command::from_raw(command) else { return Errno::ENOSYS.into() };
    let result = match command {
        Command::Version => Ok(INTERFACE_VERSION),
        Command::ExtraVersion => text::<EXTRA_SIZE>(call, argument, EXTRA_VERSION),
        Command::CompileInfo => copy(call, argument, &compile_info()),
        Command::Capabilities => text::<CAPABILITIES_SIZE>(call, argument, CAPABILITIES),
        Command::Changeset => text::<CHANGESET_SIZE>(call, argument, CHANGESET),
        Command::PlatformParameters => copy(call, argument, &PlatformParameters::default()),
        Command::GetFeatures => {
            get_features(call.monitor, call.caller.domain, argument).map(|()| 0)
        }
        Command::PageSize if argument.0 != 0 => Err(Errno::EINVAL),
        Command::PageSize => Ok(abi::PAGE_SIZE as u64),
        Command::GuestHandle => copy(call, argument, &handle(call.caller.domain)),
        Command::CommandLine => command_line(call, argument),
        Command::BuildId => build_id(call, argument),
    };
    result.into()
}

const EXTRA_SIZE: usize = size_of::<ExtraVersion>();
const CAPABILITIES_SIZE: usize = size_of::<Capabilities>();
const CHANGESET_SIZE: usize = size_of::<Changeset>();
const COMMAND_LINE_SIZE: usize = size_of::<CommandLine>();

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

/// By whom and when is left out: the same source makes the same monitor, wherever it is built.
fn compile_info() -> CompileInfo {
    CompileInfo {
        compiler: padded(env!("AUROCHS_COMPILER")),
        compile_by: [0; 16],
        compile_domain: [0; 32],
        compile_date: [0; 32],
    }
}

/// The UUID under which the toolstack keeps a domain in the store: it is derived from the domain's
/// number.
fn handle(domain: DomId) -> DomainHandle {
    u128::from(domain.0).to_be_bytes()
}

fn command_line(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    if call.privileged().is_err() {
        return copy(call, argument, &DENIED);
    }
    let line = COMMAND_LINE.get().copied().unwrap_or_default();
    text::<COMMAND_LINE_SIZE>(call, argument, line)
}

/// This monitor has none, as a Xen that was linked without.
fn build_id(call: &mut Call<'_>, argument: GuestVa) -> Result<u64, Errno> {
    call.privileged()?;
    if argument.0 != 0 {
        let room: BuildId = guest::read(call.monitor, argument)?;
        if room.len == 0 {
            return Err(Errno::EINVAL);
        }
    }
    Err(Errno::ENODATA)
}

fn copy<T>(call: &Call<'_>, to: GuestVa, value: &T) -> Result<u64, Errno>
where
    T: zerocopy::IntoBytes + zerocopy::Immutable + Copy,
{
    guest::write(call.monitor, to, value)?;
    Ok(0)
}

/// Copies out a text. Out of line: the others need not have room for it on the stack.
#[inline(never)]
fn text<const N: usize>(call: &Call<'_>, to: GuestVa, text: &str) -> Result<u64, Errno> {
    copy(call, to, &padded::<N>(text))
}

/// A text, padded with at least one NUL to `N` bytes; what does not fit is left out.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut padded = [0; N];
    let end = N.saturating_sub(1);
    for (byte, character) in padded.iter_mut().take(end).zip(text.bytes()) {
        *byte = character;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_with_a_nul() {
        assert_eq!(padded::<4>("ab"), *b"ab\0\0");
        assert_eq!(padded::<4>("abcdef"), *b"abc\0");
        assert_eq!(padded::<0>("a"), []);
    }

    #[test]
    fn only_the_version_needs_no_argument() {
        assert_eq!(immediate(Command::Version.raw()), Some(0x4_0011));
        assert_eq!(immediate(Command::PageSize.raw()), None, "it must be checked");
    }

    #[test]
    fn a_handle_is_the_uuid_in_the_store() {
        assert_eq!(handle(DomId(0x102))[14..], [1, 2]);
        assert!(compile_info().compiler.starts_with(b"rustc "));
    }
}
