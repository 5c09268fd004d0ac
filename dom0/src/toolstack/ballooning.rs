//! How much memory a domain is to have: the toolstack says so in the store, and the domain gives
//! memory back or takes some until it has so much, if it listens (docs/misc/xenstore-paths.pandoc,
//! `memory/target`).

use alloc::format;

use pv_guest_kernel::hypercall;

use super::{
    Summary, Toolstack,
    config::{MEMORY_MAX, MEMORY_MIN},
    error::{Error, failed},
    memory, store_entries,
};

impl Toolstack {
    /// Asks a domain to have so many MiB, at most `maxmem` or what [`Toolstack::set_max_memory`]
    /// said. Like xl, this does not wait for it; but it cannot have more from here on.
    ///
    /// # Errors
    /// There is no such domain; it cannot have so much, or so little; the store's, the monitor's.
    pub async fn set_memory(&self, name: &str, mebibytes: u32) -> Result<(), Error> {
        let guest = self.find_guest(name)?;
        let most = self.with(&guest, |domain| domain.memory.max)?;
        if !(MEMORY_MIN..=most).contains(&mebibytes) {
            let (name, asked) = (guest.name, mebibytes);
            return Err(Error::MemoryTarget { name, asked, least: MEMORY_MIN, most });
        }
        // Before it is asked: it may want more at once. Nothing is waited for between the two, and
        // the store's requests are served in order: of two commands the later one wins both.
        limit(&guest, mebibytes)?;
        self.with(&guest, |domain| domain.memory.target = mebibytes)?;
        let path = format!("{}/memory/target", store_entries::domain_path(guest.info.domain));
        let kibibytes = format!("{}", u64::from(mebibytes) * 1024);
        let written = self.0.services.store.write(&path, &kibibytes).await;
        written.map_err(failed("say in the store how much memory the domain is to have"))
    }

    /// Sets how much memory a domain may have, from now on and by [`Toolstack::set_memory`].
    ///
    /// # Errors
    /// There is no such domain; it is to have more already; the monitor's.
    pub fn set_max_memory(&self, name: &str, mebibytes: u32) -> Result<(), Error> {
        let guest = self.find_guest(name)?;
        let least = self.with(&guest, |domain| domain.memory.target)?;
        if !(least..=MEMORY_MAX).contains(&mebibytes) {
            let (name, asked) = (guest.name, mebibytes);
            return Err(Error::MaxMemory { name, asked, least, most: MEMORY_MAX });
        }
        limit(&guest, mebibytes)?;
        self.with(&guest, |domain| domain.memory.max = mebibytes)
    }
}

fn limit(guest: &Summary, mebibytes: u32) -> Result<(), Error> {
    hypercall::domctl::set_max_memory(guest.info.domain, memory::frames(mebibytes))
        .map_err(failed("set how much memory the domain may have"))
}
