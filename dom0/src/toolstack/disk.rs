//! Disk strings: `target=disk0, vdev=xvda, access=rw`, as in xl's `disk` key.
//!
//! The positional form is understood too: `disk0,xvda,w`, and with xl's format in between,
//! `disk0,raw,xvda,w`. A target is what [`Target`] says. `overlay=` names another: what the guest
//! writes goes there, and the first is only read. `rate=10MB/s` and `iops=500/s` limit how much is
//! done for the guest.

use alloc::string::{String, ToString};
use core::fmt;

use thiserror::Error;

use super::rate::{NotARate, Rate};
use crate::block::target::{NotATarget, Part, Target};

/// Disks in the store.
pub const CLASS: &str = "vbd";

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

    /// Reads such a name.
    ///
    /// # Errors
    /// [`DiskError::VirtualDevice`]
    pub fn parse(text: &str) -> Result<VirtualDevice, DiskError> {
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
    /// Where its content is.
    pub target: Target,
    /// Where what the guest writes goes, if not there.
    pub overlay: Option<Target>,
    /// How the guest sees it.
    pub vdev: VirtualDevice,
    /// What the guest may do.
    pub access: Access,
    /// Whether the guest shall take it for a CD.
    pub cdrom: bool,
    /// How many bytes it may read and write.
    pub rate: Option<Rate>,
    /// How many requests it may make.
    pub iops: Option<Rate>,
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
        let cdrom = match fields.devtype {
            None | Some("disk") => false,
            Some("cdrom") => true,
            Some(other) => return Err(DiskError::DeviceType(other.to_string())),
        };
        let default = if cdrom { Access::ReadOnly } else { Access::ReadWrite };
        let spec = DiskSpec {
            target: fields.target.ok_or(DiskError::Missing("target"))?.parse()?,
            overlay: fields.overlay.map(str::parse).transpose()?,
            vdev: VirtualDevice::parse(fields.vdev.ok_or(DiskError::Missing("vdev"))?)?,
            access: fields.access.map_or(Ok(default), Access::parse)?,
            cdrom,
            rate: fields.rate.map(Rate::of_bytes).transpose()?,
            iops: fields.iops.map(Rate::of_operations).transpose()?,
        };
        if cdrom && spec.access == Access::ReadWrite {
            return Err(DiskError::WritableCd);
        }
        match (&spec.target, &spec.overlay) {
            (Target::Ram { .. }, Some(_)) => Err(DiskError::NoBase),
            _ => Ok(spec),
        }
    }

    /// The parts of real disks that it uses, and how.
    pub fn uses(&self) -> impl Iterator<Item = (&str, Part, Access)> {
        let access = if self.overlay.is_some() { Access::ReadOnly } else { self.access };
        let overlay = self.overlay.iter().map(|overlay| (overlay, Access::ReadWrite));
        let both = [(&self.target, access)].into_iter().chain(overlay);
        both.filter_map(|(target, access)| match target {
            Target::Disk { disk, part } => Some((disk.as_str(), *part, access)),
            Target::Ram { .. } => None,
        })
    }
}

/// The parts of a disk string, as found.
#[derive(Default)]
struct Fields<'a> {
    target: Option<&'a str>,
    vdev: Option<&'a str>,
    access: Option<&'a str>,
    format: Option<&'a str>,
    overlay: Option<&'a str>,
    devtype: Option<&'a str>,
    rate: Option<&'a str>,
    iops: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: &'a str) -> Result<(), DiskError> {
        let field = match key {
            "target" => &mut self.target,
            "vdev" => &mut self.vdev,
            "access" => &mut self.access,
            "overlay" => &mut self.overlay,
            "devtype" => &mut self.devtype,
            "rate" => &mut self.rate,
            "iops" => &mut self.iops,
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
        // xl's word for a CD, which has no place of its own.
        if value == "cdrom" && self.target.is_some() {
            return self.set("devtype", value);
        }
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
    #[error(
        "unknown key `{0}`; the keys are target, vdev, access, format, overlay, devtype, rate and \
         iops"
    )]
    UnknownKey(String),
    /// Only raw disks exist.
    #[error("format `{0}` is not supported; the only format is raw")]
    Format(String),
    /// Not a place of sectors.
    #[error(transparent)]
    Target(#[from] NotATarget),
    /// Not a rate.
    #[error(transparent)]
    Rate(#[from] NotARate),
    /// Neither a disk nor a CD.
    #[error("devtype `{0}` is not known; write disk or cdrom")]
    DeviceType(String),
    /// Guests do not burn CDs.
    #[error("a cdrom cannot be written; leave out access")]
    WritableCd,
    /// Memory has no content of which something could differ.
    #[error("a disk in memory has no base; leave out overlay")]
    NoBase,
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
        assert_eq!(named.target.to_string(), "disk0");
        assert_eq!(named.vdev.to_string(), "xvdb");
        assert_eq!(named.access, Access::ReadOnly);
    }

    #[test]
    fn access_defaults_to_writable() {
        assert_eq!(DiskSpec::parse("disk0,xvda").unwrap().access, Access::ReadWrite);
    }

    #[test]
    fn a_base_is_read_and_its_overlay_written() {
        let uses = |text| {
            let disk = DiskSpec::parse(text).unwrap();
            let uses: Vec<_> =
                disk.uses().map(|(name, _, access)| format!("{name} {}", access.mode())).collect();
            uses
        };
        assert_eq!(uses("disk0,xvda,w"), ["disk0 w"]);
        assert_eq!(uses("disk0p1,xvda,w,overlay=ram:16M"), ["disk0 r"]);
        assert_eq!(uses("disk0,xvda,overlay=disk1@1M+16M"), ["disk0 r", "disk1 w"]);
        assert!(uses("ram:16M,xvda").is_empty());
        assert_eq!(DiskSpec::parse("ram:1M,xvda,overlay=disk1"), Err(DiskError::NoBase));
    }

    #[test]
    fn limits_are_read() {
        let disk = DiskSpec::parse("disk0,xvda,w,rate=1MB/s,iops=100/s").unwrap();
        assert_eq!(disk.rate.unwrap().to_string(), "50000,50000");
        assert_eq!(disk.iops.unwrap().to_string(), "5,50000");
        assert!(matches!(DiskSpec::parse("disk0,xvda,iops=many"), Err(DiskError::Rate(_))));
    }

    #[test]
    fn cds_are_read_only() {
        for text in ["disk0,xvda,cdrom", "disk0,raw,xvda,cdrom,r", "disk0,xvda,devtype=cdrom"] {
            let disk = DiskSpec::parse(text).unwrap();
            assert!(disk.cdrom && disk.access == Access::ReadOnly, "{text}");
        }
        assert_eq!(DiskSpec::parse("disk0,xvda,w,cdrom"), Err(DiskError::WritableCd));
        let tape = DiskSpec::parse("disk0,xvda,devtype=tape");
        assert_eq!(tape, Err(DiskError::DeviceType("tape".into())));
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
            prop_assert_eq!(spec.target.to_string(), format!("disk{disk}"));
            prop_assert_eq!(spec.vdev.to_string(), format!("xvd{letter}"));
            prop_assert_eq!(spec.access.mode(), mode);
        }
    }
}
