//! Which disks are being served, so that a person can have one served anew.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::cell::RefCell;

use futures_channel::oneshot;
use pv_guest_kernel::vcpu_local;

/// How a backend ends that is to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// What it has begun is finished.
    Orderly,
    /// It drops what it has begun, as one would that died. The disk goes on with what it was given.
    Crash,
}

vcpu_local! {
    /// By the backend's directory: what ends its work.
    static RUNNING: RefCell<BTreeMap<String, oneshot::Sender<Stop>>> =
        RefCell::new(BTreeMap::new());
}

/// A disk that is being served.
pub(super) struct Running {
    path: String,
    stop: oneshot::Receiver<Stop>,
}

impl Running {
    pub(super) fn new(path: &str) -> Running {
        let (sender, stop) = oneshot::channel();
        RUNNING.with(|running| running.borrow_mut().insert(path.into(), sender));
        Running { path: path.into(), stop }
    }

    /// Waits until it is to be served anew.
    pub(super) async fn stopped(&mut self) -> Stop {
        match (&mut self.stop).await {
            Ok(stop) => stop,
            // Nobody can stop it any more.
            Err(_) => core::future::pending().await,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|running| running.borrow_mut().remove(&self.path));
    }
}

/// Stops a backend in the middle of its work, and starts it again, given its directory: no request
/// is answered any more. Returns whether it was running.
pub fn restart(backend: &str, how: Stop) -> bool {
    RUNNING.with(|running| {
        let mut running = running.borrow_mut();
        let path = running.keys().find(|path| backend.ends_with(path.as_str())).cloned();
        path.and_then(|path| running.remove(&path)).is_some_and(|stop| stop.send(how).is_ok())
    })
}
