//! The life of a frontend.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::pin::pin;

use abi::Errno;
use futures_util::future::{Either, select};

use super::{Device, Error, State};
use crate::executor;
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

/// Starts a driver in a task of its own; returns when it has its first connection. Dropped before,
/// the driver ends.
///
/// # Errors
/// If the driver ends before that: its own, or [`Error::Removed`].
pub async fn start_driver(
    driver: impl Future<Output = Result<(), Error>> + 'static,
    first_connection: impl Future,
) -> Result<(), Error> {
    match select(pin!(first_connection), executor::spawn(driver)).await {
        Either::Left((_, driver)) => {
            driver.detach();
            Ok(())
        }
        Either::Right((result, _)) => result.and(Err(Error::Removed)),
    }
}

/// Runs a frontend's driver, and again each time that the backend has gone and comes back, until
/// the driver returns for a reason of its own.
///
/// # Errors
/// The driver's; [`Error::Removed`] if the backend has gone for good; [`Error::Key`] if the
/// directory names no backend.
pub async fn run_frontend(
    store: &Client,
    path: &str,
    driver: impl AsyncFn(&Device) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let device = Device::frontend(store, path).await?;
        let result = driver(&device).await;
        // To be asked before this end says that it is closed: after that another device may have
        // this one's place.
        let is_taken_away = device.peer_is_taken_away().await;
        device.close().await;
        let Err(Error::Gone(state)) = result else { return result };
        if is_taken_away {
            return Err(Error::Removed);
        }
        log::warn!("{device}: the backend is {state:?}; connecting again");
        let down = [State::Closed, State::Initialising, State::InitWait];
        device.wait_peer_return(&down).await?;
    }
}
