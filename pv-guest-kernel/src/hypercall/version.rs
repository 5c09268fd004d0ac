//! `xen_version`: what this domain runs on.

use core::fmt;

use abi::Errno;
use abi::hypercall::Number;
use abi::version::{Command, FeatureInfo, Features};

/// A Xen interface version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Before the dot.
    pub major: u16,
    /// After it.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The interface version that the monitor speaks.
///
/// # Errors
/// What the monitor answers.
pub fn version() -> Result<Version, Errno> {
    // SAFETY: the command takes no pointer.
    let raw = unsafe { super::raw(Number::XenVersion, [Command::Version.raw(), 0, 0, 0, 0]) }?;
    let [.., high, low] = [(raw >> 16) & 0xFFFF, raw & 0xFFFF];
    Ok(Version {
        major: u16::try_from(high).unwrap_or(u16::MAX),
        minor: u16::try_from(low).unwrap_or(u16::MAX),
    })
}

/// What the monitor offers this domain.
///
/// # Errors
/// What the monitor answers.
#[inline]
pub fn features() -> Result<Features, Errno> {
    let mut argument = FeatureInfo::default();
    let command = Command::GetFeatures.raw();
    // SAFETY: the structure of that command.
    unsafe { super::with_argument(Number::XenVersion, command, &mut argument) }?;
    Ok(Features::from_bits_retain(argument.submap))
}
