//! Waits for what the two ends of a device say of themselves.

use alloc::format;
use core::time::Duration;

use abi::xenbus::State;
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{time, xenstore::Client};

use super::{device::DeviceId, error::Error, store_entries::Ends};

/// How long a backend may take to look at a new device.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until the backend of a new device is ready for the frontend, as Xen's toolstack does: what it
/// refuses is then an error of the command, and not one that a guest runs into.
///
/// # Errors
/// The backend refuses the device, and why; it does not look at it.
pub async fn backend_ready(store: &Client, id: DeviceId, ends: &Ends) -> Result<(), Error> {
    let DeviceId { class, number } = id;
    let looked = wait_for(store, &ends.backend, |state| {
        !matches!(state, State::Unknown | State::Initialising)
    });
    if let Either::Second(()) = select(looked, time::sleep(PATIENCE)).await {
        return Err(Error::NoBackend { class, number });
    }
    let read = async |key: &str| store.read(&format!("{}/{key}", ends.backend)).await;
    let state = read("state").await.map_or(State::Unknown, |raw| State::parse(raw.as_bytes()));
    match (state, read("error").await) {
        (State::Closing | State::Closed, Ok(reason)) => {
            Err(Error::DeviceRefused { class, number, reason })
        }
        _ => Ok(()),
    }
}

/// Waits until an end's state is one of those, or the end is gone.
pub async fn wait_for(store: &Client, end: &str, is_there: impl Fn(State) -> bool) {
    let path = format!("{end}/state");
    let Ok(watch) = store.watch(&path).await else { return };
    loop {
        watch.next().await;
        match store.read(&path).await {
            Ok(state) if !is_there(State::parse(state.as_bytes())) => {}
            _ => return,
        }
    }
}
