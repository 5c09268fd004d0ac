//! Devices of domains, those that come and go while they run included. All classes are treated
//! alike.

use alloc::{format, string::String, vec::Vec};

use abi::{Errno, xenbus::State};
use pv_guest_kernel::xenstore::Client;

use super::{
    Summary, Toolstack, block,
    device::{DeviceId, DeviceSpec},
    error::{Error, failed},
    handshake,
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

/// What a device's two ends say of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The frontend's state.
    pub frontend: State,
    /// The backend's state.
    pub backend: State,
    /// Why the backend closed it, if it did.
    pub error: Option<String>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The guest's driver.
    Frontend,
    /// dom0's.
    Backend,
}

impl Status {
    /// Whose turn it is, while the device is not in operation: the other end waits for this one.
    pub fn waits_for(&self) -> Option<Side> {
        use State::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};
        match (self.frontend, self.backend) {
            (Connected, Connected) | (Closed | Unknown, Closed | Unknown) => None,
            // First the backend says what it can do.
            (_, Unknown | Initialising) => Some(Side::Backend),
            // Down: both say Closing, and then Closed, the frontend first.
            (Closing, InitWait | Initialised | Connected) => Some(Side::Backend),
            (Closed, Closing | Connected) => Some(Side::Backend),
            (_, Closing | Closed) => Some(Side::Frontend),
            // Up: the frontend says where its rings are, and the backend connects to them.
            (Unknown | Initialising | InitWait | Closed, _) => Some(Side::Frontend),
            (Initialised, Connected) => Some(Side::Frontend),
            _ => Some(Side::Backend),
        }
    }

    /// Keys that are missing are shown as what they stand for: nothing.
    async fn read(store: &Client, ends: &Ends) -> Status {
        let state = async |end: &str| {
            let state = store.read(&format!("{end}/state")).await;
            state.map_or(State::Unknown, |state| State::parse(state.as_bytes()))
        };
        Status {
            frontend: state(&ends.frontend).await,
            backend: state(&ends.backend).await,
            error: store.read(&format!("{}/error", ends.backend)).await.ok(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_wait_for_each_other_in_turns() {
        use State::{Closed, Closing, Connected, InitWait, Initialised, Initialising};
        let waits_for = |(frontend, backend)| Status { frontend, backend, error: None }.waits_for();
        for states in [
            (Initialising, Initialising),
            (Initialised, Initialising),
            (Initialised, InitWait),
            (Connected, InitWait),
            (Closing, Connected),
            (Closed, Closing),
        ] {
            assert_eq!(waits_for(states), Some(Side::Backend), "{states:?}");
        }
        for states in [
            (Initialising, InitWait),
            (Initialised, Connected),
            (Connected, Closing),
            (Closing, Closing),
            (Connected, Closed),
            (Closed, InitWait),
        ] {
            assert_eq!(waits_for(states), Some(Side::Frontend), "{states:?}");
        }
        for states in [(Connected, Connected), (Closed, Closed)] {
            assert_eq!(waits_for(states), None, "{states:?}");
        }
    }
}
