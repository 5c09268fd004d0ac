//! The lives of all backends of a class.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use abi::Errno;

use super::{Device, Error, State};
use crate::executor;
use crate::xenstore::Client;

/// Runs a backend's driver for each device of a class that the toolstack puts into this domain's
/// `backend/CLASS/DOMAIN/DEVICE`; each in a task of its own, again each time that its frontend has
/// gone and comes back, until the toolstack takes the device away.
///
/// # Errors
/// If the store cannot be watched; else it does not return.
pub async fn serve_backends(
    store: &Client,
    class: &str,
    driver: impl AsyncFn(&Device) -> Result<(), Error> + Clone + 'static,
) -> Result<Infallible, Errno> {
    let directory = format!("backend/{class}");
    let watch = store.watch(&directory).await?;
    let served = Rc::new(RefCell::new(BTreeSet::new()));
    loop {
        let changed = watch.next().await;
        for path in devices(store, &directory, &changed).await {
            if served.borrow_mut().insert(path.clone()) {
                let (store, driver, served) = (store.clone(), driver.clone(), served.clone());
                executor::spawn(async move {
                    run_backend(&store, &path, driver).await;
                    served.borrow_mut().remove(&path);
                })
                .detach();
            }
        }
    }
}

/// The devices that a changed path may be about: the one that it is in, or all of them.
async fn devices(store: &Client, directory: &str, changed: &str) -> Vec<String> {
    let below = changed.strip_prefix(directory).unwrap_or_default();
    let mut names = below.split('/').skip(1);
    if let (Some(domain), Some(device)) = (names.next(), names.next()) {
        return Vec::from([format!("{directory}/{domain}/{device}")]);
    }
    let mut found = Vec::new();
    for domain in store.directory(directory).await.unwrap_or_default() {
        let domain = format!("{directory}/{domain}");
        let devices = store.directory(&domain).await.unwrap_or_default();
        found.extend(devices.iter().map(|device| format!("{domain}/{device}")));
    }
    found
}

/// Serves one device until it is taken away.
async fn run_backend(
    store: &Client,
    path: &str,
    driver: impl AsyncFn(&Device) -> Result<(), Error>,
) {
    // It may not be there yet: each further key that the toolstack writes leads here again.
    while let Ok(device) = Device::backend(store, path).await {
        if !device.is_wanted().await {
            // The toolstack waits to hear that nobody uses the device, even if nobody ever did.
            if device.state() != State::Closed {
                device.close().await;
            }
            break;
        }
        match driver(&device).await {
            // The frontend may start again, for example as another kernel in the same domain.
            result @ (Ok(()) | Err(Error::Gone(_))) => {
                match result {
                    Ok(()) => device.close().await,
                    Err(_) => device.close_after_peer().await,
                }
                let _ = device.wait_peer_return(&[State::Initialising]).await;
            }
            Err(Error::Removed) => device.close().await,
            // A device that failed stays closed.
            Err(error) => {
                device.report(&error).await;
                device.close().await;
                device.removed().await;
            }
        }
    }
    log::debug!("{path}: no longer served");
}
