//! What the two ends of a device say of themselves, and waiting for it.

use alloc::{format, string::String};
use core::time::Duration;

use abi::xenbus::State;
use embassy_futures::select::{Either, select};
use pv_guest_kernel::{time, xenstore::Client};

use super::{device::DeviceId, error::Error, store_entries::Ends};

/// How long a backend may take to look at a new device.
const PATIENCE: Duration = Duration::from_secs(5);

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
    pub async fn read(store: &Client, ends: &Ends) -> Status {
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
    match Status::read(store, ends).await {
        Status { backend: State::Closing | State::Closed, error: Some(reason), .. } => {
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
