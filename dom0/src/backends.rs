//! The far ends of the guests' devices: one for each class.

use alloc::boxed::Box;

use futures_util::future::LocalBoxFuture;
use pv_guest_kernel::executor;
use pv_guest_kernel::xenbus::{Device, Error, serve_backends};
use pv_guest_kernel::xenstore::Client;

/// What serves the devices of a class.
#[derive(Debug)]
pub struct Backend {
    /// The class's name in the store.
    pub class: &'static str,
    /// Serves one connection of a frontend.
    serve: for<'d> fn(&'d Device) -> LocalBoxFuture<'d, Result<(), Error>>,
}

/// `CLASS => MODULE;`: the module of this crate whose function `serve` serves that class.
macro_rules! backends {
    ($($class:expr => $module:ident;)*) => {
        &[$(Backend {
            class: $class,
            serve: |device| Box::pin(crate::$module::serve(device)),
        }),*]
    };
}

/// All classes.
pub const BACKENDS: &[Backend] = backends! {
    "vbd" => block;
    "vif" => network;
    abi::entropy::CLASS => entropy;
};

/// The names of all classes.
pub fn classes() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|backend| backend.class)
}

/// Serves every device that the toolstack puts into `backend/CLASS`. A device's key `error` says
/// why it was closed.
pub fn start(store: &Client) {
    for Backend { class, serve } in BACKENDS {
        let store = store.clone();
        executor::spawn(async move {
            let driver = async move |device: &Device| serve(device).await;
            let Err(error) = serve_backends(&store, class, driver).await;
            log::error!("no guest will get a device of class {class}: {error}");
        })
        .detach();
    }
}
