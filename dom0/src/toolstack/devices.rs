//! Takes down a domain's devices.

use alloc::{format, vec::Vec};
use core::time::Duration;

use abi::{DomId, Errno, xenbus::State};
use embassy_futures::select::select;
use pv_guest_kernel::{time, xenstore::Client};

use super::{disk::DiskSpec, store_entries};

/// How long a backend may take to let go of a domain's memory. Its disk requests in flight end
/// first.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the backends of a stopped domain's disks let go of it, and waits until they have.
///
/// The guest does not run any more and cannot close its ends: they are declared closed in its
/// name, which backends answer as if the guest had done it.
pub async fn detach(store: &Client, domain: DomId, disks: &[DiskSpec]) {
    let mut closing = Vec::new();
    for disk in disks {
        match declare_closed(store, domain, disk).await {
            Ok(()) => closing.push(disk),
            // Never published: the domain failed half-built.
            Err(Errno::ENOENT) => {}
            Err(error) => log::error!("{domain}: {}: {error}", disk.vdev),
        }
    }
    for disk in closing {
        select(backend_closed(store, domain, disk), give_up(domain, disk)).await;
    }
}

async fn declare_closed(store: &Client, domain: DomId, disk: &DiskSpec) -> Result<(), Errno> {
    let backend = store_entries::backend_path(domain, disk);
    let frontend = store_entries::frontend_path(domain, disk);
    store.read(&format!("{backend}/state")).await?;
    store.write(&format!("{backend}/online"), "0").await?;
    store.write(&format!("{frontend}/state"), &format!("{}", State::Closed.raw())).await
}

/// Waits until the backend says that it is closed, or is gone.
async fn backend_closed(store: &Client, domain: DomId, disk: &DiskSpec) {
    let path = format!("{}/state", store_entries::backend_path(domain, disk));
    let Ok(watch) = store.watch(&path).await else { return };
    loop {
        watch.next().await;
        match store.read(&path).await {
            Ok(state) if State::parse(state.as_bytes()) != State::Closed => {}
            _ => return,
        }
    }
}

async fn give_up(domain: DomId, disk: &DiskSpec) {
    time::sleep(PATIENCE).await;
    log::error!(
        "{domain}: the backend of {} does not let go; the domain's memory stays in use until it does",
        disk.vdev
    );
}
