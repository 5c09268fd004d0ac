//! Disk strings: `target=disk0, vdev=xvda, access=rw`, as in xl's `disk` key.
//!
//! The positional form is understood too: `disk0,xvda,w`, and with xl's format in between,
//! `disk0,raw,xvda,w`.

use alloc::string::{String, ToString};
use core::fmt;

use thiserror::Error;

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `r` or `ro`
    ReadOnly,
    /// `w` or `rw`
    ReadWrite,
}

impl Access {
    fn parse(text: &str) -> Result<Access, DiskError> {
        match text {
            "r" | "ro" => Ok(Access::ReadOnly),
            "w" | "rw" => Ok(Access::ReadWrite),
            _ => Err(DiskError::Access(text.to_string())),
        }
    }

    /// The value of the backend's `mode` key.
    pub const fn mode(self) -> &'static str {
        match self {
            Access::ReadOnly => "r",
            Access::ReadWrite => "w",
        }
    }
}

/// The name under which a guest sees a disk: `xvda` to `xvdp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualDevice {
    letter: u8,
}

impl VirtualDevice {
    /// Block major number of `xvd` disks in Linux; each disk has 16 minors, for its partitions.
    const MAJOR: u32 = 202;

    fn parse(text: &str) -> Result<VirtualDevice, DiskError> {
        match text.strip_prefix("xvd").map(str::as_bytes) {
            Some(&[letter @ b'a'..=b'p']) => Ok(VirtualDevice { letter }),
            _ => Err(DiskError::VirtualDevice(text.to_string())),
        }
    }

    /// The number that stands for the name in store paths and in `virtual-device`
    /// (docs/man/xen-vbd-interface.7): `major << 8 | disk * 16`.
    pub fn number(self) -> u32 {
        (Self::MAJOR << 8) | (u32::from(self.letter - b'a') << 4)
    }
}

impl fmt::Display for VirtualDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xvd{}", char::from(self.letter))
    }
}

/// One disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Which of the machine's disks: `disk0`, ...
    pub target: String,
    /// How the guest sees it.
    pub vdev: VirtualDevice,
    /// What the guest may do.
    pub access: Access,
}

impl DiskSpec {
    /// Reads a disk string.
    ///
    /// # Errors
    /// Says which part is wrong and what would be right.
    pub fn parse(text: &str) -> Result<DiskSpec, DiskError> {
        let mut fields = Fields::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                Some((key, value)) => fields.set(key.trim(), value.trim())?,
                None => fields.set_next(part)?,
            }
        }
        Ok(DiskSpec {
            target: fields.target.ok_or(DiskError::Missing("target"))?.to_string(),
            vdev: VirtualDevice::parse(fields.vdev.ok_or(DiskError::Missing("vdev"))?)?,
            access: fields.access.map_or(Ok(Access::ReadWrite), Access::parse)?,
        })
    }

    /// Whether the two want the same disk and at least one wants to write it.
    pub fn conflicts_with(&self, other: &DiskSpec) -> bool {
        let written = [self, other].iter().any(|disk| disk.access == Access::ReadWrite);
        self.target == other.target && written
    }
}

/// The parts of a disk string, as found.
#[derive(Default)]
struct Fields<'a> {
    target: Option<&'a str>,
    vdev: Option<&'a str>,
    access: Option<&'a str>,
    format: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: &'a str) -> Result<(), DiskError> {
        let field = match key {
            "target" => &mut self.target,
            "vdev" => &mut self.vdev,
            "access" => &mut self.access,
            "format" if value == "raw" => &mut self.format,
            "format" => return Err(DiskError::Format(value.to_string())),
            _ => return Err(DiskError::UnknownKey(key.to_string())),
        };
        if value.is_empty() {
            return Err(DiskError::Empty(key.to_string()));
        }
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(DiskError::Twice(key.to_string())),
        }
    }

    fn set_next(&mut self, value: &'a str) -> Result<(), DiskError> {
        let key = if self.target.is_none() {
            "target"
        } else if value == "raw" && self.format.is_none() && self.vdev.is_none() {
            "format"
        } else if self.vdev.is_none() {
            "vdev"
        } else if self.access.is_none() {
            "access"
        } else {
            return Err(DiskError::TooMany(value.to_string()));
        };
        self.set(key, value)
    }
}

/// What is wrong with a disk string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiskError {
    /// A part that must be there is not.
    #[error("{0} is missing; write target=disk0, vdev=xvda, access=rw")]
    Missing(&'static str),
    /// A part without a value.
    #[error("{0} is empty; write target=disk0, vdev=xvda, access=rw")]
    Empty(String),
    /// The same part again.
    #[error("{0} is given twice")]
    Twice(String),
    /// More positional parts than there are.
    #[error("`{0}` is one part too many; the parts are target, vdev, access")]
    TooMany(String),
    /// Not a key of disk strings.
    #[error("unknown key `{0}`; the keys are target, vdev, access and format")]
    UnknownKey(String),
    /// Only raw disks exist.
    #[error("format `{0}` is not supported; the only format is raw")]
    Format(String),
    /// Not a way of access.
    #[error("access `{0}` is not known; write r or rw")]
    Access(String),
    /// Not a device name.
    #[error("vdev `{0}` is not a disk's name; the names are xvda to xvdp")]
    VirtualDevice(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let named = DiskSpec::parse("target=disk0, vdev=xvdb, access=ro").unwrap();
        assert_eq!(named, DiskSpec::parse("disk0,xvdb,r").unwrap());
        assert_eq!(named, DiskSpec::parse("disk0, raw, xvdb, ro").unwrap());
        assert_eq!(named, DiskSpec::parse("disk0,vdev=xvdb,access=r,format=raw").unwrap());
        assert_eq!(named.target, "disk0");
        assert_eq!(named.vdev.to_string(), "xvdb");
        assert_eq!(named.access, Access::ReadOnly);
    }

    #[test]
    fn access_defaults_to_writable() {
        assert_eq!(DiskSpec::parse("disk0,xvda").unwrap().access, Access::ReadWrite);
    }

    #[test]
    fn only_readers_share_a_disk() {
        let disk = |text| DiskSpec::parse(text).unwrap();
        assert!(disk("disk0,xvda,w").conflicts_with(&disk("disk0,xvdb,r")));
        assert!(disk("disk0,xvda,r").conflicts_with(&disk("disk0,xvda,w")));
        assert!(!disk("disk0,xvda,r").conflicts_with(&disk("disk0,xvda,r")));
        assert!(!disk("disk0,xvda,w").conflicts_with(&disk("disk1,xvda,w")));
    }

    #[test]
    fn device_numbers_are_linux() {
        assert_eq!(VirtualDevice::parse("xvda").unwrap().number(), 51712);
        assert_eq!(VirtualDevice::parse("xvdp").unwrap().number(), 51712 + 15 * 16);
    }

    #[test]
    fn each_mistake_is_named() {
        let error = |text| DiskSpec::parse(text).unwrap_err();
        assert_eq!(error("disk0"), DiskError::Missing("vdev"));
        assert_eq!(error("vdev=xvda"), DiskError::Missing("target"));
        assert_eq!(error(""), DiskError::Empty("target".into()));
        assert_eq!(error("disk0,sda"), DiskError::VirtualDevice("sda".into()));
        assert_eq!(error("disk0,xvdq"), DiskError::VirtualDevice("xvdq".into()));
        assert_eq!(error("disk0,xvda,x"), DiskError::Access("x".into()));
        assert_eq!(error("disk0,xvda,w,z"), DiskError::TooMany("z".into()));
        assert_eq!(error("disk0,xvda,colour=red"), DiskError::UnknownKey("colour".into()));
        assert_eq!(error("disk0,xvda,target=disk1"), DiskError::Twice("target".into()));
        assert_eq!(error("disk0,xvda,format=qcow2"), DiskError::Format("qcow2".into()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9=, ]{0,40}") {
            let _ = DiskSpec::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(letter in b'a'..=b'p', disk in 0u8..32, write: bool) {
            let letter = char::from(letter);
            let mode = if write { "w" } else { "r" };
            let spec = DiskSpec::parse(&format!("disk{disk},xvd{letter},{mode}")).unwrap();
            prop_assert_eq!(spec.target, format!("disk{disk}"));
            prop_assert_eq!(spec.vdev.to_string(), format!("xvd{letter}"));
            prop_assert_eq!(spec.access.mode(), mode);
        }
    }
}
