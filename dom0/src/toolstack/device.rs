//! What a person says of a device, whatever its class.

use super::{
    disk::{self, DiskSpec},
    generic::GenericSpec,
    vif::{self, VifSpec},
};

/// One device of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSpec {
    /// A disk.
    Disk(DiskSpec),
    /// A network interface.
    Vif(VifSpec),
    /// One of a class that has no key of its own in domain files.
    Generic(GenericSpec),
}

impl DeviceSpec {
    /// Its class in the store.
    pub const fn class(&self) -> &'static str {
        match self {
            DeviceSpec::Disk(_) => disk::CLASS,
            DeviceSpec::Vif(_) => vif::CLASS,
            DeviceSpec::Generic(device) => device.class,
        }
    }

    /// The number in its class that it must have, if it cannot have any.
    pub fn number(&self) -> Option<u32> {
        match self {
            DeviceSpec::Disk(disk) => Some(disk.vdev.number()),
            DeviceSpec::Vif(_) | DeviceSpec::Generic(_) => None,
        }
    }
}

/// Which device of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    /// Its class.
    pub class: &'static str,
    /// Its number in the class.
    pub number: u32,
}
