//! Takes domains apart.
//!
//! There is one way to do so, and it serves for `xl destroy`, for a domain that has stopped and for
//! one that could not be built to the end: so nothing is left behind by any.

use alloc::vec::Vec;

use abi::DomId;
use pv_guest_kernel::hypercall;

use super::{
    PAST_MAX, Services, Summary, Toolstack, UNKNOWN,
    domain::{Domain, End, Past},
    error::Error,
    store_entries, teardown,
};
use crate::console;

/// The right to take a domain apart, which only one task has.
#[derive(Debug)]
pub struct Claim {
    id: DomId,
    /// Whether it has ever run: then it had something to say.
    has_run: bool,
}

impl Claim {
    /// The right of the one who has been building it.
    pub fn by_builder(id: DomId) -> Claim {
        Claim { id, has_run: false }
    }

    /// Which domain.
    pub const fn id(&self) -> DomId {
        self.id
    }
}

impl Toolstack {
    /// Destroys the domain, whatever it does; one that is about to be started again is not.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn destroy(&self, name: &str) -> Result<(), Error> {
        if self.0.restarting.borrow_mut().remove(name).is_some() {
            return Ok(());
        }
        let Summary { name, info } = self.find_guest(name)?;
        if let Some(claim) = self.claim(info.domain) {
            drop(self.dismantle(claim, End::Destroyed).await);
            return Ok(());
        }
        let ended = self.0.domains.borrow().get(&info.domain).map(|domain| domain.ended.clone());
        match ended {
            Some(ended) => drop(ended.wait().await),
            None => return Err(Error::WrongState { name, state: UNKNOWN }),
        }
        Ok(())
    }

    /// The right to take a domain apart; None if somebody else has it, or there is no domain.
    pub(super) fn claim(&self, id: DomId) -> Option<Claim> {
        let mut domains = self.0.domains.borrow_mut();
        domains.get_mut(&id)?.begin_end().then_some(Claim { id, has_run: true })
    }

    /// Takes a domain apart, whatever state building it or running it left it in; returns, when it
    /// is gone, what was known of it. Only the monitor can keep it longer: until nobody maps its
    /// memory any more.
    pub(super) async fn dismantle(&self, claim: Claim, end: End) -> Option<Domain> {
        let Claim { id, has_run } = claim;
        let Services { store_server, store, consoles, .. } = &self.0.services;
        // It may be stopped already: what matters is that it does not run from here on.
        let _ = hypercall::domctl::pause(id);
        teardown::detach_all(store, id).await;
        // A domain that failed half-built may have no connection yet.
        let _ = store_server.release(id);
        if let Err(error) = store_entries::remove(store, id).await {
            log::error!("{id}: its entries in the store: {error}");
        }
        // From here on nothing waits: whoever asks for the console finds this one or what it said.
        let output = self.close_console(consoles, id).await;
        if let Err(error) = hypercall::domctl::destroy(id) {
            log::error!("{id}: cannot be destroyed: {error}");
        }
        let domain = self.0.domains.borrow_mut().remove(&id)?;
        if has_run {
            self.remember(Past { name: domain.estate.name(), id, end, output });
        }
        domain.ended.tell(end);
        Some(domain)
    }

    /// Ends the domain's console; returns what is kept of its output.
    async fn close_console(&self, consoles: &console::Backend, id: DomId) -> Vec<u8> {
        let session = consoles.open(id);
        consoles.detach(id);
        let Some(mut session) = session else { return Vec::new() };
        let mut output = Vec::new();
        let mut buffer = [0; 512];
        loop {
            match session.read(&mut buffer).await {
                0 => return output,
                count => output.extend(buffer.iter().take(count)),
            }
        }
    }

    fn remember(&self, past: Past) {
        let mut all = self.0.past.borrow_mut();
        if all.len() == PAST_MAX {
            all.pop_front();
        }
        all.push_back(past);
    }
}
