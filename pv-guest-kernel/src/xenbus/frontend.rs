//! The life of a frontend.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::Errno;

use super::{Device, Error, State};
use crate::xenstore::Client;

/// The directories of this domain's devices of a class, such as `vbd`.
///
/// # Errors
/// If the store cannot be read.
pub async fn frontends(store: &Client, class: &str) -> Result<Vec<String>, Errno> {
    let directory = format!("device/{class}");
    match store.directory(&directory).await {
        Ok(names) => Ok(names.iter().map(|name| format!("{directory}/{name}")).collect()),
        Err(Errno::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The directory of this domain's first device of a class; if there is none yet, waits for one.
///
/// # Errors
/// If the store cannot be read.
pub async fn first_frontend(store: &Client, class: &str) -> Result<String, Errno> {
    let watch = store.watch(&format!("device/{class}")).await?;
    // A watch fires at once.
    watch.next().await;
    let mut told = false;
    loop {
        if let Some(path) = frontends(store, class).await?.into_iter().next() {
            return Ok(path);
        }
        if !told {
            log::info!("waiting for a device of class {class}");
            told = true;
        }
        watch.next().await;
    }
}

/// Runs a frontend's driver, and again each time that the backend has gone and comes back, until
/// the driver returns for a reason of its own.
///
/// # Errors
/// The driver's; [`Error::Key`] if the directory names no backend.
pub async fn run_frontend(
    store: &Client,
    path: &str,
    driver: impl AsyncFn(&Device) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let device = Device::frontend(store, path).await?;
        let result = driver(&device).await;
        device.close().await;
        let Err(Error::Gone(state)) = result else { return result };
        log::warn!("{device}: the backend is {state:?}; connecting again");
        let down = [State::Closed, State::Initialising, State::InitWait];
        device.wait_peer_return(&down).await?;
    }
}
