//! How many of a domain's vCPUs are online: the toolstack says so in the store, and the domain
//! follows if it listens.

use alloc::format;

use abi::{DomId, Errno};
use pv_guest_kernel::xenstore::Client;

use super::{
    Summary, Toolstack,
    error::{Error, failed},
    store_entries::{self, availability, availability_key},
};

impl Toolstack {
    /// Asks a domain to have its first `online` vCPUs online and the others offline. Like xl, this
    /// does not wait for it.
    ///
    /// # Errors
    /// There is no such domain; it does not have so many; the store's.
    pub async fn set_vcpus(&self, name: &str, online: u32) -> Result<(), Error> {
        let Summary { name, info } = self.find(name)?;
        let most = info.max_vcpus;
        if online == 0 || online > most {
            return Err(Error::VcpuCount { name, asked: online, most });
        }
        publish(&self.0.services.store, info.domain, online, most)
            .await
            .map_err(failed("say in the store which vCPUs are to be online"))
    }
}

/// Writes which of a domain's vCPUs are to be online.
///
/// # Errors
/// The store's.
pub async fn publish(store: &Client, domain: DomId, online: u32, all: u32) -> Result<(), Errno> {
    let directory = store_entries::domain_path(domain);
    store
        .transaction(async |view| {
            // A domain that is gone gets no directory again.
            if domain != DomId::DOM0 {
                view.read(&format!("{directory}/domid")).await?;
            }
            for vcpu in 0..all {
                let path = format!("{directory}/{}", availability_key(vcpu));
                view.write(&path, availability(vcpu, online)).await?;
            }
            Ok(())
        })
        .await
}
