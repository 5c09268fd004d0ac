//! How much memory a domain is to have: the toolstack says so in the store, and the domain gives
//! memory back or takes some until it has so much, if it listens (docs/misc/xenstore-paths.pandoc,
//! `memory/target`).

use alloc::format;

use pv_guest_kernel::hypercall;

use super::{
    Summary, Toolstack, UNKNOWN,
    config::MEMORY_MIN,
    error::{Error, failed},
    memory, store_entries,
};

impl Toolstack {
    /// Asks a domain to have so many MiB, at most what it was made with. Like xl, this does not
    /// wait for it; but it cannot have more from here on.
    ///
    /// # Errors
    /// There is no such domain; it cannot have so much, or so little; the store's, the monitor's.
    pub async fn set_memory(&self, name: &str, mebibytes: u32) -> Result<(), Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let most = match self.0.domains.borrow().get(&info.domain) {
            Some(domain) => domain.config.memory,
            None => return Err(Error::WrongState { name, state: UNKNOWN }),
        };
        if !(MEMORY_MIN..=most).contains(&mebibytes) {
            return Err(Error::MemoryTarget { name, asked: mebibytes, least: MEMORY_MIN, most });
        }
        // Before it is asked: it may want more at once.
        hypercall::domctl::set_max_memory(info.domain, memory::frames(mebibytes))
            .map_err(failed("set how much memory the domain may have"))?;
        let path = format!("{}/memory/target", store_entries::domain_path(info.domain));
        let kibibytes = format!("{}", u64::from(mebibytes) * 1024);
        let written = self.0.services.store.write(&path, &kibibytes).await;
        written.map_err(failed("say in the store how much memory the domain is to have"))
    }
}
