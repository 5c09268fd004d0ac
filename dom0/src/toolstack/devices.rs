//! Takes down a domain's devices.

use alloc::{format, vec::Vec};
use core::time::Duration;

use abi::{DomId, Errno, xenbus::State};
use embassy_futures::select::select;
use pv_guest_kernel::{time, xenstore::Client};

use super::{config::DomainConfig, store_entries::Ends};

/// How long a backend may take to let go of a domain's memory. Its disk requests in flight end
/// first.
const PATIENCE: Duration = Duration::from_secs(5);

/// All devices of a domain.
pub fn of(domain: DomId, config: &DomainConfig) -> Vec<Ends> {
    let disks = config.disk.iter().map(|disk| Ends::disk(domain, disk));
    let vifs = (0..).zip(&config.vif).map(|(number, _)| Ends::vif(domain, number));
    disks.chain(vifs).collect()
}

/// Has the backends of a stopped domain's devices let go of it, and waits until they have.
///
/// The guest does not run any more and cannot close its ends: they are declared closed in its
/// name, which backends answer as if the guest had done it.
pub async fn detach(store: &Client, domain: DomId, devices: &[Ends]) {
    let mut closing = Vec::new();
    for device in devices {
        match declare_closed(store, device).await {
            Ok(()) => closing.push(device),
            // Never published: the domain failed half-built.
            Err(Errno::ENOENT) => {}
            Err(error) => log::error!("{domain}: {}: {error}", device.name),
        }
    }
    for device in closing {
        select(backend_closed(store, device), give_up(domain, device)).await;
    }
}

async fn declare_closed(store: &Client, device: &Ends) -> Result<(), Errno> {
    let Ends { frontend, backend, .. } = device;
    store.read(&format!("{backend}/state")).await?;
    store.write(&format!("{backend}/online"), "0").await?;
    store.write(&format!("{frontend}/state"), &format!("{}", State::Closed.raw())).await
}

/// Waits until the backend says that it is closed, or is gone.
async fn backend_closed(store: &Client, device: &Ends) {
    let path = format!("{}/state", device.backend);
    let Ok(watch) = store.watch(&path).await else { return };
    loop {
        watch.next().await;
        match store.read(&path).await {
            Ok(state) if State::parse(state.as_bytes()) != State::Closed => {}
            _ => return,
        }
    }
}

async fn give_up(domain: DomId, device: &Ends) {
    time::sleep(PATIENCE).await;
    log::error!(
        "{domain}: the backend of {} does not let go; the domain's memory stays in use until it does",
        device.name
    );
}
