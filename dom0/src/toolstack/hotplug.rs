//! Devices of domains, those that come and go while they run included. All classes are treated
//! alike.

use alloc::{string::String, vec::Vec};

use abi::Errno;

use super::{
    Summary, Toolstack, block,
    device::{DeviceId, DeviceSpec},
    error::{Error, failed},
    handshake::{self, Status},
    store_entries::{self, Ends},
    teardown,
};

/// A device as the `-list` verbs of `xl` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// What it was made from.
    pub spec: DeviceSpec,
    /// What its two ends say of themselves.
    pub status: Status,
    /// Its backend's directory.
    pub path: String,
}

impl Toolstack {
    /// A domain's devices.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn devices(&self, name: &str) -> Result<Vec<Device>, Error> {
        let guest = self.find_guest(name)?;
        let all = self.with(&guest, |domain| {
            let devices = domain.estate.devices();
            devices.map(|(id, spec)| (id, spec.clone())).collect::<Vec<_>>()
        })?;
        let mut devices = Vec::new();
        for (id, spec) in all {
            let ends = Ends::of(guest.info.domain, id);
            let status = Status::read(&self.0.services.store, &ends).await;
            devices.push(Device { id, spec, status, path: ends.backend });
        }
        Ok(devices)
    }

    /// Gives a domain a device; returns its number in its class.
    ///
    /// # Errors
    /// There is no such domain or no such disk; somebody has what belongs to the device; its backend
    /// refuses it; the store's.
    pub async fn attach(&self, name: &str, device: DeviceSpec) -> Result<u32, Error> {
        self.attach_to(&self.find_guest(name)?, device).await
    }

    pub(super) async fn attach_to(
        &self,
        guest: &Summary,
        device: DeviceSpec,
    ) -> Result<u32, Error> {
        let sectors = block::sectors(&device).await?;
        // From here on it is this domain's and no other's.
        let (id, device) = self.with(guest, |domain| domain.estate.add(device, sectors))??;
        let domain = guest.info.domain;
        let published =
            store_entries::publish_device(&self.0.services.store, domain, id, &device).await;
        published.map_err(|errno| {
            // If the domain is gone, so is what it had.
            let _ = self.with(guest, |domain| domain.estate.remove(id));
            failed("write the device's entries")(errno)
        })?;
        let ends = Ends::of(domain, id);
        if let Err(error) = handshake::backend_ready(&self.0.services.store, id, &ends).await {
            self.detach_from(guest, id).await?;
            return Err(error);
        }
        Ok(id.number)
    }

    /// Takes a device away from a domain.
    ///
    /// # Errors
    /// There is no such domain; it has no such device, or somebody takes it away already; the
    /// store's.
    pub async fn detach(&self, name: &str, id: DeviceId) -> Result<(), Error> {
        self.detach_from(&self.find_guest(name)?, id).await
    }

    pub(super) async fn detach_from(&self, guest: &Summary, id: DeviceId) -> Result<(), Error> {
        if !self.with(guest, |domain| domain.estate.begin_removal(id))? {
            let (DeviceId { class, number }, name) = (id, guest.name.clone());
            return Err(Error::UnknownDevice { name, class, number });
        }
        let ends = Ends::of(guest.info.domain, id);
        let detached = teardown::detach(&self.0.services.store, &ends).await;
        // If the domain has gone meanwhile, so has the device.
        let settle = self.with(guest, |domain| match detached {
            Ok(()) | Err(Errno::ENOENT) => {
                domain.estate.remove(id);
                Ok(())
            }
            Err(errno) => {
                domain.estate.cancel_removal(id);
                Err(failed("take the device away")(errno))
            }
        });
        settle.unwrap_or(Ok(()))
    }
}
