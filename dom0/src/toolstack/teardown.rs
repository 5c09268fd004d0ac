//! Takes down a domain's devices.

use alloc::{format, vec::Vec};
use core::time::Duration;

use abi::{DomId, Errno, xenbus::State};
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{time, xenstore::Client};

use super::handshake::wait_for;
use super::store_entries::{Ends, backends_path};
use crate::{backends, block};

/// How long a backend may take to let go of a domain's memory. Its disk requests in flight end
/// first.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the backends of a stopped domain's devices let go of it, and waits until they have.
///
/// The guest does not run any more and cannot close its ends: they are declared closed in its
/// name, which backends answer as if the guest had done it.
pub async fn detach_all(store: &Client, domain: DomId) {
    let mut closing = Vec::new();
    for class in backends::classes() {
        // There is no directory if there never was a device.
        let names = store.directory(&backends_path(domain, class)).await.unwrap_or_default();
        for name in names {
            let device = Ends::new(domain, class, &name);
            match declare_closed(store, &device).await {
                Ok(()) => closing.push(device),
                Err(error) => log::error!("{}: {error}", device.backend),
            }
        }
    }
    for device in closing {
        select(backend_closed(store, &device), give_up(&device)).await;
        block::forget(&device.backend);
    }
}

/// Takes one device away from a domain that runs, and waits until its backend has let go and its
/// frontend has noticed: it could take another device in the same place for this one.
///
/// # Errors
/// The store's; `ENOENT` if there is no such device.
pub async fn detach(store: &Client, device: &Ends) -> Result<(), Errno> {
    store.read(&format!("{}/state", device.backend)).await?;
    store.write(&format!("{}/online", device.backend), "0").await?;
    select(backend_closed(store, device), give_up(device)).await;
    block::forget(&device.backend);
    let noticed = select(frontend_down(store, device), time::sleep(PATIENCE)).await;
    if matches!(noticed, Either::Second(())) {
        log::warn!("{} does not notice that it is taken away", device.frontend);
    }
    store.remove(&device.frontend).await?;
    store.remove(&device.backend).await
}

async fn declare_closed(store: &Client, device: &Ends) -> Result<(), Errno> {
    let Ends { frontend, backend } = device;
    store.read(&format!("{backend}/state")).await?;
    store.write(&format!("{backend}/online"), "0").await?;
    store.write(&format!("{frontend}/state"), &format!("{}", State::Closed.raw())).await
}

/// Waits until the backend says that it is closed, or is gone.
async fn backend_closed(store: &Client, device: &Ends) {
    wait_for(store, &device.backend, |state| state == State::Closed).await;
}

/// Waits until the frontend is not connected, or is gone. One without a driver never was.
async fn frontend_down(store: &Client, device: &Ends) {
    let down = [State::Closed, State::Initialising, State::Unknown];
    wait_for(store, &device.frontend, |state| down.contains(&state)).await;
}

async fn give_up(device: &Ends) {
    time::sleep(PATIENCE).await;
    log::error!(
        "{} does not let go; the domain's memory stays in use until it does",
        device.backend
    );
}
