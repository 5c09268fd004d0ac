//! Disks of domains, those that come and go while they run included.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use abi::{Errno, domctl::DomainInfo};

use super::{
    Summary, Toolstack, UNKNOWN,
    config::DomainConfig,
    devices,
    disk::{Access, DiskSpec},
    error::{Error, failed},
    hotplug::{Status, numbers},
    store_entries::{self, Ends},
};
use crate::block::{
    self,
    disks::{ClaimError, Place},
};

/// A disk as `xl block-list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// How the domain sees it: `xvda`.
    pub vdev: String,
    /// Which disk it is.
    pub target: String,
    /// `r` or `w`.
    pub mode: String,
    /// What its two ends say of themselves.
    pub status: Status,
    /// Its backend's directory.
    pub path: String,
}

impl Toolstack {
    /// A domain's disks.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn attached_disks(&self, name: &str) -> Result<Vec<AttachedDisk>, Error> {
        let domain = self.find_guest(name)?.info.domain;
        let store = &self.0.services.store;
        let mut disks = Vec::new();
        for number in numbers(store, domain, "vbd").await {
            let ends = Ends::new(domain, "vbd", number);
            let status = Status::read(store, &ends).await;
            let path = ends.backend;
            // A key that is missing is shown as what it stands for: nothing.
            let key =
                async |key: &str| store.read(&format!("{path}/{key}")).await.unwrap_or_default();
            let (vdev, target, mode) = (key("dev").await, key("params").await, key("mode").await);
            disks.push(AttachedDisk { vdev, target, mode, status, path });
        }
        Ok(disks)
    }

    /// Gives a domain a disk.
    ///
    /// # Errors
    /// There is no such domain or no such disk; somebody else uses it; the store's.
    pub async fn attach_disk(&self, name: &str, disk: &DiskSpec) -> Result<(), Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let DomainConfig { disk: disks, .. } = self.config(info.domain, &name)?;
        if disks.iter().any(|other| other.vdev == disk.vdev) {
            return Err(Error::VdevTaken { name, vdev: disk.vdev });
        }
        self.check_disks(&name, core::slice::from_ref(disk)).await?;
        // From here on it is taken.
        self.change_disks(&info, |disks| disks.push(disk.clone()));
        let store = &self.0.services.store;
        let published = store_entries::publish_disk(store, info.domain, disk).await;
        published.map_err(|errno| {
            self.change_disks(&info, |disks| disks.retain(|other| other.vdev != disk.vdev));
            failed("write the disk's entries")(errno)
        })
    }

    /// Takes a disk away from a domain, by the name that the domain has for it.
    ///
    /// # Errors
    /// There is no such domain, or it has no such disk; the store's.
    pub async fn detach_disk(&self, name: &str, vdev: &str) -> Result<(), Error> {
        let (info, disk) = self.find_disk(name, vdev)?;
        let ends = Ends::disk(info.domain, &disk);
        match devices::detach(&self.0.services.store, &ends).await {
            Ok(()) | Err(Errno::ENOENT) => {
                self.change_disks(&info, |disks| disks.retain(|other| other.vdev != disk.vdev));
                Ok(())
            }
            Err(errno) => Err(failed("take the disk away")(errno)),
        }
    }

    /// Has a disk's backend stop and start again, as if it had died.
    ///
    /// # Errors
    /// There is no such domain, it has no such disk, or its backend does not run.
    pub fn restart_disk(&self, name: &str, vdev: &str) -> Result<(), Error> {
        let (info, disk) = self.find_disk(name, vdev)?;
        match block::restart(&Ends::disk(info.domain, &disk).backend) {
            true => Ok(()),
            false => Err(failed("restart a backend that is not connected")(Errno::EAGAIN)),
        }
    }

    /// A disk by the name that its domain has for it.
    fn find_disk(&self, name: &str, vdev: &str) -> Result<(DomainInfo, DiskSpec), Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let disks = self.config(info.domain, &name)?.disk;
        match disks.iter().find(|disk| disk.vdev.to_string() == vdev) {
            Some(disk) => Ok((info, disk.clone())),
            None => {
                let known = disks.iter().map(|disk| disk.vdev.to_string()).collect();
                Err(Error::UnknownVdev { name, vdev: vdev.into(), known })
            }
        }
    }

    /// What a domain was made from, with what has changed since.
    fn config(&self, id: abi::DomId, name: &str) -> Result<DomainConfig, Error> {
        let domains = self.0.domains.borrow();
        let config = domains.get(&id).map(|domain| domain.config.clone());
        config.ok_or_else(|| Error::WrongState { name: name.into(), state: UNKNOWN })
    }

    fn change_disks(&self, info: &DomainInfo, change: impl FnOnce(&mut Vec<DiskSpec>)) {
        if let Some(domain) = self.0.domains.borrow_mut().get_mut(&info.domain) {
            change(&mut domain.config.disk);
        }
    }

    /// Every one of these disks, which are to be domain `name`'s, exists, and sectors that anybody
    /// may write have one user.
    pub(super) async fn check_disks(&self, name: &str, disks: &[DiskSpec]) -> Result<(), Error> {
        let mut taken = Vec::new();
        for (name, disks) in self.other_disks() {
            for (place, access) in places(&disks).await.unwrap_or_default() {
                taken.push((name.clone(), place, access));
            }
        }
        for (place, access) in places(disks).await? {
            if place.read_only && access == Access::ReadWrite {
                return Err(Error::DiskReadOnly { disk: place.disk });
            }
            let in_use = |(_, other, theirs): &&(String, Place, Access)| {
                let written = access == Access::ReadWrite || *theirs == Access::ReadWrite;
                written && other.overlaps(&place)
            };
            if let Some((user, ..)) = taken.iter().find(in_use) {
                return Err(Error::DiskInUse { disk: place.disk, user: user.clone() });
            }
            taken.push((name.to_string(), place, access));
        }
        Ok(())
    }

    /// What the domains have that there are.
    fn other_disks(&self) -> Vec<(String, Vec<DiskSpec>)> {
        let domains = self.0.domains.borrow();
        domains
            .values()
            .map(|domain| (domain.config.name.clone(), domain.config.disk.clone()))
            .collect()
    }
}

/// The sectors of real disks that these use.
async fn places(disks: &[DiskSpec]) -> Result<Vec<(Place, Access)>, Error> {
    let mut places = Vec::new();
    for (name, part, access) in disks.iter().flat_map(DiskSpec::uses) {
        let place = block::disks::find(name, part).await.map_err(|error| match error {
            ClaimError::Absent { .. } => {
                let known = block::disks::list().into_iter().map(|disk| disk.name).collect();
                Error::UnknownDisk { name: name.to_string(), known }
            }
            other => Error::DiskPart(other),
        })?;
        places.push((place, access));
    }
    Ok(places)
}
