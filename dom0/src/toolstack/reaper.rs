//! Learns from the monitor which domains have stopped, and does with them what their domain file
//! says.

use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

use abi::{DomId, Errno, domctl::DomainState, event::Virq, sched::ShutdownReason};
use pv_guest_kernel::{event::Channel, executor, time};

use super::{
    Toolstack,
    config::{Action, DomainConfig, NAME_MAX},
    create::Start,
    destroy::Claim,
    domain::{Domain, End, Phase},
    estate::Estate,
    store_entries, teardown,
};

/// A domain that stops as soon as it starts shall not keep the machine busy.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Asks to be told when a domain changes its state.
///
/// # Errors
/// The monitor's.
pub fn bind() -> Result<Channel, Errno> {
    Channel::bind_virq(Virq::DomExc)
}

/// Looks after domains for ever.
pub async fn run(toolstack: Toolstack, changes: Channel) {
    loop {
        changes.wait().await;
        match toolstack.list() {
            Ok(domains) => {
                for domain in domains {
                    let state = DomainState::from_bits_retain(domain.info.state);
                    if let Some(reason) = state.shutdown_reason() {
                        toolstack.stopped(domain.info.domain, reason);
                    }
                }
            }
            Err(error) => log::error!("{error}"),
        }
    }
}

impl Toolstack {
    /// Begins to deal with a domain that has stopped, unless that has begun already.
    fn stopped(&self, id: DomId, reason: u32) {
        // A reason that nobody knows is the guest's fault.
        let reason = ShutdownReason::from_raw(reason).unwrap_or(ShutdownReason::Crash);
        let end = End::Shutdown(reason);
        let Some((name, action)) = self.action(id, reason) else { return };
        if !end.is_success() {
            log::warn!("{id}: {name} {end}");
        }
        if action == Action::Preserve {
            return self.preserve(id, end);
        }
        let Some(claim) = self.claim(id) else { return };
        let toolstack = self.clone();
        executor::spawn(async move {
            match action {
                Action::Restart => toolstack.restart(claim, &name, end).await,
                Action::RenameRestart => toolstack.rename_restart(claim, &name, end).await,
                Action::Destroy | Action::Preserve => drop(toolstack.dismantle(claim, end).await),
            }
        })
        .detach();
    }

    /// What a domain that counts as running is called, and what is to be done when it stops.
    fn action(&self, id: DomId, reason: ShutdownReason) -> Option<(String, Action)> {
        let domains = self.0.domains.borrow();
        let domain = domains.get(&id).filter(|domain| domain.phase == Phase::Running)?;
        Some((domain.estate.name(), domain.config.action(reason)))
    }

    fn preserve(&self, id: DomId, end: End) {
        if let Some(domain) = self.0.domains.borrow_mut().get_mut(&id) {
            log::warn!("{id}: it is preserved until xl destroy {}", domain.estate.name());
            domain.phase = Phase::Preserved;
            domain.ended.tell(end);
        }
        self.0.services.store_server.announce_shutdown();
    }

    /// Makes a domain again. What it has stays its own in between.
    async fn restart(&self, claim: Claim, name: &str, end: End) {
        let Some(Domain { config, estate, .. }) = self.dismantle(claim, end).await else { return };
        self.make_again(config, estate, name).await;
    }

    /// Keeps a domain to be looked at under another name, and makes it again under its own. Its
    /// devices are the new one's: a disk has one writer.
    async fn rename_restart(&self, claim: Claim, name: &str, end: End) {
        let (store, id) = (&self.0.services.store, claim.id());
        teardown::detach_all(store, id).await;
        let removed = store_entries::remove_devices(store, id).await;
        let Some((config, estate)) = self.split(id, name) else { return };
        let renamed = store_entries::rename(store, id, &kept_name(name, id)).await;
        if let Err(error) = removed.and(renamed) {
            log::error!("{id}: its entries in the store: {error}");
        }
        self.preserve(id, end);
        self.make_again(config, estate, name).await;
    }

    /// Leaves a domain nothing but another name; returns what it was made from and what it had.
    fn split(&self, id: DomId, name: &str) -> Option<(DomainConfig, Estate)> {
        let kept = Estate::new(&self.0.registry, &kept_name(name, id));
        let kept =
            kept.inspect_err(|error| log::error!("{name} cannot be renamed: {error}")).ok()?;
        let mut domains = self.0.domains.borrow_mut();
        let domain = domains.get_mut(&id)?;
        Some((domain.config.clone(), core::mem::replace(&mut domain.estate, kept)))
    }

    async fn make_again(&self, config: DomainConfig, estate: Estate, name: &str) {
        self.0.restarting.borrow_mut().insert(name.to_string(), estate);
        time::sleep(RESTART_DELAY).await;
        // Unless somebody destroyed it meanwhile.
        let Some(estate) = self.0.restarting.borrow_mut().remove(name) else { return };
        if let Err(error) = self.create_with(config, estate, Start::Running).await {
            log::error!("{name} cannot be started again: {error}");
        }
    }
}

/// The name of a domain that is kept while another has its own: its number makes it unique.
fn kept_name(name: &str, DomId(id): DomId) -> String {
    let suffix = format!("-{id}");
    let room = NAME_MAX.saturating_sub(suffix.len());
    format!("{}{suffix}", name.get(..room).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::{super::config::check_name, *};

    #[test]
    fn a_kept_name_is_a_name() {
        assert_eq!(kept_name("web", DomId(7)), "web-7");
        let long = kept_name(&"a".repeat(NAME_MAX), DomId(32_000));
        assert!(check_name(&long).is_ok() && long.ends_with("aa-32000"), "{long}");
    }
}
