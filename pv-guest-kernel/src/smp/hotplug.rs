//! vCPUs that the toolstack adds and takes away: `cpu/N/availability` in the domain's directory,
//! as `xl vcpu-set` writes it.

use alloc::format;

use abi::{Errno, VcpuId};

use super::{MAX_VCPUS, start, stop};
use crate::xenstore::Client;

const DIRECTORY: &str = "cpu";

/// Starts and stops this domain's vCPUs as the toolstack says, now and whenever it changes its
/// mind. `vcpus` is how many there are. A vCPU of which the toolstack says nothing stays as it is.
///
/// # Errors
/// The store's; it does not return otherwise.
pub async fn follow(store: Client, vcpus: usize) -> Result<(), Errno> {
    let watch = store.watch(DIRECTORY).await?;
    loop {
        watch.next().await;
        for vcpu in (1..vcpus.min(MAX_VCPUS) as u32).map(VcpuId) {
            match store.read(&format!("{DIRECTORY}/{}/availability", vcpu.0)).await {
                Ok(availability) => apply(vcpu, &availability).await,
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn apply(vcpu: VcpuId, availability: &str) {
    let result = match (availability, super::is_on(vcpu)) {
        ("online", false) => start(vcpu),
        ("offline", true) => stop(vcpu).await,
        _ => return,
    };
    match result {
        Ok(()) => log::info!("vCPU {} is {availability}", vcpu.0),
        Err(error) => log::warn!("vCPU {} cannot go {availability}: {error}", vcpu.0),
    }
}
