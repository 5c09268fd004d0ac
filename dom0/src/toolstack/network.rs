//! Network interfaces of domains that run.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use abi::{DomId, Errno, net, xenbus::State};
use pv_guest_kernel::xenstore::Client;

use crate::network::DOM0_ADDRESS;

use super::{
    Summary, Toolstack, devices,
    error::{Error, failed},
    hotplug::{Status, free_number, numbers},
    store_entries::{self, Ends},
    vif::VifSpec,
};

/// An interface as `xl network-list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number in the domain.
    pub number: u32,
    /// Its hardware address.
    pub address: String,
    /// What its frontend says of itself.
    pub frontend: State,
    /// What its backend says of itself.
    pub backend: State,
    /// Its backend's directory.
    pub path: String,
    /// Why its backend closed it, if it did.
    pub error: Option<String>,
}

impl Toolstack {
    /// A domain's interfaces.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn interfaces(&self, name: &str) -> Result<Vec<Interface>, Error> {
        let domain = self.find_guest(name)?.info.domain;
        let store = &self.0.services.store;
        let mut interfaces = Vec::new();
        for number in numbers(store, domain, "vif").await {
            interfaces.push(Interface::read(store, domain, number).await);
        }
        Ok(interfaces)
    }

    /// Gives a domain another interface; returns its number.
    ///
    /// # Errors
    /// There is no such domain; somebody has the address; the store's.
    pub async fn attach_interface(&self, name: &str, vif: &VifSpec) -> Result<u32, Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let store = &self.0.services.store;
        let number = free_number(store, info.domain, "vif").await;
        let address = vif.address(&name, number);
        self.check_address(address).await?;
        let published = store_entries::publish_vif(store, info.domain, number, address, vif);
        published.await.map_err(failed("write the interface's entries"))?;
        Ok(number)
    }

    /// Takes an interface away from a domain.
    ///
    /// # Errors
    /// There is no such domain, or it has no such interface; the store's.
    pub async fn detach_interface(&self, name: &str, number: u32) -> Result<(), Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let ends = Ends::vif(info.domain, number);
        match devices::detach(&self.0.services.store, &ends).await {
            Err(Errno::ENOENT) => Err(Error::UnknownInterface { name, number }),
            result => result.map_err(failed("take the interface away")),
        }
    }

    /// Nobody else has this hardware address: frames would go to either.
    pub(super) async fn check_address(&self, address: net::MacAddress) -> Result<(), Error> {
        if address == DOM0_ADDRESS {
            return Err(Error::AddressInUse { address, user: String::from("Domain-0") });
        }
        for Summary { name, info } in self.list()? {
            let store = &self.0.services.store;
            for number in numbers(store, info.domain, "vif").await {
                let other = Interface::read(store, info.domain, number).await;
                if other.address == address.to_string() {
                    return Err(Error::AddressInUse { address, user: name });
                }
            }
        }
        Ok(())
    }
}

impl Interface {
    /// A key that is missing is shown as what it stands for: nothing.
    async fn read(store: &Client, domain: DomId, number: u32) -> Interface {
        let ends = Ends::vif(domain, number);
        let Status { frontend, backend, error } = Status::read(store, &ends).await;
        let path = ends.backend;
        let address = store.read(&format!("{path}/{}", net::key::MAC)).await.unwrap_or_default();
        Interface { number, address, frontend, backend, path, error }
    }
}
