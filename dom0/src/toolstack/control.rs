//! What one may ask of a domain that runs.

use alloc::{format, rc::Rc, string::ToString};
use core::time::Duration;

use abi::Errno;
use embassy_futures::select::{Either3, select3};
use pv_guest_kernel::{hypercall, time, xenstore::Client};

use super::{
    Summary, Toolstack,
    domain::{Ended, Phase},
    error::{Error, failed},
    store_entries,
};

/// How long a guest may take to acknowledge a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a domain may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To power off.
    PowerOff,
    /// To reboot.
    Reboot,
}

impl Request {
    /// As `control/shutdown` says it.
    const fn value(self) -> &'static str {
        match self {
            Request::PowerOff => "poweroff",
            Request::Reboot => "reboot",
        }
    }
}

impl Toolstack {
    /// Stops the domain's vCPUs until [`Toolstack::unpause`].
    ///
    /// # Errors
    /// There is no such domain; the monitor's.
    pub fn pause(&self, name: &str) -> Result<(), Error> {
        let id = self.find_guest(name)?.info.domain;
        hypercall::domctl::pause(id).map_err(failed("pause the domain"))
    }

    /// Lets the domain's vCPUs go on.
    ///
    /// # Errors
    /// There is no such domain; it is not paused.
    pub fn unpause(&self, name: &str) -> Result<(), Error> {
        let id = self.find_guest(name)?.info.domain;
        hypercall::domctl::unpause(id).map_err(failed("unpause the domain"))
    }

    /// Asks the domain to end itself; returns when it has heard. Whoever wants to can wait for its
    /// end.
    ///
    /// # Errors
    /// There is no such domain; it does not listen.
    pub async fn ask(&self, name: &str, request: Request) -> Result<Rc<Ended>, Error> {
        let guest = self.find_guest(name)?;
        let ended = self.running(&guest)?;
        let store = &self.0.services.store;
        let path = format!("{}/control/shutdown", store_entries::domain_path(guest.info.domain));
        let asking = failed("ask the domain to end itself");
        store.write(&path, request.value()).await.map_err(asking)?;
        match select3(acknowledged(store, &path, request), ended.wait(), time::sleep(PATIENCE))
            .await
        {
            Either3::First(Ok(())) | Either3::Second(_) => Ok(ended),
            Either3::First(Err(errno)) => Err(failed("learn whether the domain has heard")(errno)),
            // Then it is on its way out, and an answer would be written for nobody.
            Either3::Third(()) if self.running(&guest).is_err() => Ok(ended),
            Either3::Third(()) => {
                // Taken back, so that it does not end when nobody expects it any more.
                store.write(&path, "").await.map_err(failed("take the request back"))?;
                Err(Error::NoShutdownSupport { name: guest.name })
            }
        }
    }

    /// Presses a key of the domain's keyboard together with SysRq, as Linux understands it.
    ///
    /// # Errors
    /// There is no such domain; the store's.
    pub async fn sysrq(&self, name: &str, key: char) -> Result<(), Error> {
        let guest = self.find_guest(name)?;
        self.running(&guest)?;
        let path = format!("{}/control/sysrq", store_entries::domain_path(guest.info.domain));
        let written = self.0.services.store.write(&path, &key.to_string()).await;
        written.map_err(failed("pass the key to the domain"))
    }

    /// The end of a domain that runs.
    fn running(&self, guest: &Summary) -> Result<Rc<Ended>, Error> {
        self.with(guest, |domain| match domain.phase {
            Phase::Preserved => {
                let state = "has stopped already and is preserved; use xl destroy";
                Err(Error::WrongState { name: domain.estate.name(), state })
            }
            _ => Ok(domain.ended.clone()),
        })?
    }
}

/// Waits until the guest has taken the request away, which says that it was seen, or is gone.
async fn acknowledged(store: &Client, path: &str, request: Request) -> Result<(), Errno> {
    let watch = store.watch(path).await?;
    loop {
        watch.next().await;
        match store.read(path).await {
            Ok(value) if value == request.value() => {}
            Ok(_) | Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
