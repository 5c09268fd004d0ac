//! What domains are called, and how long they have been there.

use alloc::{format, string::String};
use core::time::Duration;

use abi::DomId;
use pv_guest_kernel::time;

use super::{
    Summary, Toolstack, UNKNOWN,
    config::check_name,
    error::{Error, failed},
    store_entries,
};

impl Toolstack {
    /// Gives a domain another name.
    ///
    /// # Errors
    /// There is no such domain; the name is none, or taken; the store's.
    pub async fn rename(&self, name: &str, new: &str) -> Result<(), Error> {
        let guest = self.find_guest(name)?;
        check_name(new).map_err(Error::BadName)?;
        self.rename_to(&guest, new).await
    }

    pub(super) async fn rename_to(&self, guest: &Summary, new: &str) -> Result<(), Error> {
        let former = self.with(guest, |domain| domain.estate.rename(new))??;
        // Whoever renames it at the same time, the name that it has now is what the store says.
        let current = || self.with(guest, |domain| domain.estate.name());
        let written = self.0.services.store.transaction(async |view| {
            let Ok(name) = current() else { return Ok(()) };
            store_entries::rename(view, guest.info.domain, &name).await
        });
        written.await.map_err(|errno| {
            let is_new = current().is_ok_and(|name| name == new);
            if is_new {
                let _ = self.with(guest, |domain| domain.estate.undo_rename(former));
            }
            failed("write the domain's name into the store")(errno)
        })
    }

    /// How long a domain has been there; dom0 as long as the machine.
    ///
    /// # Errors
    /// This toolstack did not make it.
    pub fn uptime(&self, Summary { name, info }: &Summary) -> Result<Duration, Error> {
        let since = match info.domain {
            DomId::DOM0 => Duration::ZERO,
            id => match self.0.domains.borrow().get(&id) {
                Some(domain) => domain.since,
                None => return Err(Error::WrongState { name: name.clone(), state: UNKNOWN }),
            },
        };
        Ok(time::now().saturating_sub(since))
    }
}

/// Days, hours, minutes and seconds as xl shows them.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let clock = format!("{}:{:02}:{:02}", hours % 24, minutes % 60, seconds % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_have_days() {
        let shown = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!(shown(59), "0:00:59");
        assert_eq!(shown(3 * 3600 + 25 * 60 + 1), "3:25:01");
        assert_eq!(shown(86_400), "1 day, 0:00:00");
        assert_eq!(shown(10 * 86_400 + 60), "10 days, 0:01:00");
    }
}
