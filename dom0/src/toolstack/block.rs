//! The machine's disks: which sectors of them a domain's disk needs, and who uses which.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use abi::Errno;

use super::{
    Summary, Toolstack,
    device::{DeviceId, DeviceSpec},
    disk::{Access, CLASS, DiskSpec, VirtualDevice},
    error::{Error, failed},
    ownership::Thing,
    store_entries::Ends,
};
use crate::block::{self, Stop, disks::ClaimError};

/// One of the machine's disks and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Names of the domains.
    pub users: Vec<String>,
}

impl Toolstack {
    /// The machine's disks.
    pub fn disks(&self) -> Vec<DiskUse> {
        let domains = self.0.domains.borrow();
        let users = |name: &str| {
            let estates = domains.values().map(|domain| &domain.estate);
            let users = estates.filter(|estate| {
                let mut disks = estate.devices().filter_map(|(_, device)| match device {
                    DeviceSpec::Disk(disk) => Some(disk),
                    DeviceSpec::Vif(_) | DeviceSpec::Generic(_) => None,
                });
                disks.any(|disk| disk.uses().any(|(used, ..)| used == name))
            });
            users.map(|estate| estate.name()).collect()
        };
        let known = block::disks::list().into_iter();
        known
            .map(|disk| DiskUse { users: users(&disk.name), name: disk.name, bytes: disk.bytes })
            .collect()
    }

    /// Has a disk's backend stop and start again.
    ///
    /// # Errors
    /// There is no such domain, it has no such disk, or its backend does not run.
    pub fn restart_disk(&self, name: &str, vdev: &str, how: Stop) -> Result<(), Error> {
        let Summary { info, .. } = self.find_guest(name)?;
        let id = self.disk_id(name, vdev)?;
        match block::restart(&Ends::of(info.domain, id).backend, how) {
            true => Ok(()),
            false => Err(failed("restart a backend that is not connected")(Errno::EAGAIN)),
        }
    }

    /// Which device of a domain is the disk with this name.
    ///
    /// # Errors
    /// There is no such domain, or it has no such disk.
    pub fn disk_id(&self, name: &str, vdev: &str) -> Result<DeviceId, Error> {
        let guest = self.find_guest(name)?;
        self.with(&guest, |domain| {
            let vdev = vdev.to_string();
            let number = VirtualDevice::parse(&vdev).ok().map(VirtualDevice::number);
            let id = number.map(|number| DeviceId { class: CLASS, number });
            if let Some(id) = id.filter(|&id| domain.estate.device(id).is_some()) {
                return Ok(id);
            }
            let disks = domain.estate.devices().filter_map(|(_, device)| match device {
                DeviceSpec::Disk(disk) => Some(disk.vdev.to_string()),
                DeviceSpec::Vif(_) | DeviceSpec::Generic(_) => None,
            });
            Err(Error::UnknownVdev { name: domain.estate.name(), vdev, known: disks.collect() })
        })?
    }
}

/// The sectors of real disks that a device needs.
///
/// # Errors
/// There are no such disks or parts of disks, or they cannot be written.
pub async fn sectors(device: &DeviceSpec) -> Result<Vec<Thing>, Error> {
    let mut sectors = Vec::new();
    if let DeviceSpec::Disk(disk) = device {
        for (name, part, access) in DiskSpec::uses(disk) {
            let place =
                block::disks::find(name, part).await.map_err(|error| explain(name, error))?;
            if place.read_only && access == Access::ReadWrite {
                return Err(Error::DiskReadOnly { disk: place.disk });
            }
            sectors.push(Thing::Sectors(place, access));
        }
    }
    Ok(sectors)
}

fn explain(name: &str, error: ClaimError) -> Error {
    match error {
        ClaimError::Absent { .. } => {
            let known = block::disks::list().into_iter().map(|disk| disk.name).collect();
            Error::UnknownDisk { name: name.to_string(), known }
        }
        other => Error::DiskPart(other),
    }
}
