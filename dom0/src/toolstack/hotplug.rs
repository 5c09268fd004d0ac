//! Devices of domains that run, whatever their class.

use alloc::{format, string::String, vec::Vec};

use abi::{DomId, Errno, xenbus::State};
use pv_guest_kernel::xenstore::Client;

use super::{
    Toolstack,
    device::DeviceSpec,
    devices,
    error::{Error, failed},
    store_entries::{self, Ends, backends_path},
};
use crate::backends;

/// A device as `xl device-list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its class.
    pub class: &'static str,
    /// Its number in the domain.
    pub number: u32,
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

impl Status {
    /// Keys that are missing are shown as what they stand for: nothing.
    pub(super) async fn read(store: &Client, ends: &Ends) -> Status {
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
    /// All devices of a domain.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn devices(&self, name: &str) -> Result<Vec<Device>, Error> {
        let domain = self.find_guest(name)?.info.domain;
        let store = &self.0.services.store;
        let mut devices = Vec::new();
        for class in backends::classes() {
            for number in numbers(store, domain, class).await {
                let ends = Ends::new(domain, class, number);
                let status = Status::read(store, &ends).await;
                devices.push(Device { class, number, status, path: ends.backend });
            }
        }
        Ok(devices)
    }

    /// Gives a domain a device; returns its number in its class.
    ///
    /// # Errors
    /// There is no such domain; the store's.
    pub async fn attach_device(&self, name: &str, device: &DeviceSpec) -> Result<u32, Error> {
        let domain = self.find_guest(name)?.info.domain;
        let store = &self.0.services.store;
        let number = free_number(store, domain, device.class).await;
        let published = store_entries::publish_device(store, domain, number, device);
        published.await.map_err(failed("write the device's entries"))?;
        Ok(number)
    }

    /// Takes a device away from a domain.
    ///
    /// # Errors
    /// There is no such domain, or it has no such device; the store's.
    pub async fn detach_device(&self, name: &str, class: &str, number: u32) -> Result<(), Error> {
        let domain = self.find_guest(name)?.info.domain;
        let ends = Ends::new(domain, class, number);
        match devices::detach(&self.0.services.store, &ends).await {
            Err(Errno::ENOENT) => {
                Err(Error::UnknownDevice { name: name.into(), class: class.into(), number })
            }
            result => result.map_err(failed("take the device away")),
        }
    }
}

/// The numbers of a domain's devices of a class, in order.
pub(super) async fn numbers(store: &Client, domain: DomId, class: &str) -> Vec<u32> {
    // There is no directory if there never was one.
    let names = store.directory(&backends_path(domain, class)).await.unwrap_or_default();
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The first number that no device of the class has.
pub(super) async fn free_number(store: &Client, domain: DomId, class: &str) -> u32 {
    let taken = numbers(store, domain, class).await;
    (0..).find(|number| !taken.contains(number)).unwrap_or_default()
}
