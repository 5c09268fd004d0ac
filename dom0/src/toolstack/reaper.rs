//! Learns from the monitor which domains have stopped, and does with them what their domain file
//! says.

use alloc::string::{String, ToString};
use core::time::Duration;

use abi::{DomId, Errno, domctl::DomainState, event::Virq, sched::ShutdownReason};
use pv_guest_kernel::{event::Channel, executor, time};

use super::{
    Toolstack,
    config::Action,
    create::Start,
    destroy::Claim,
    domain::{Domain, End, Phase},
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
        self.0.restarting.borrow_mut().insert(name.to_string(), estate);
        time::sleep(RESTART_DELAY).await;
        // Unless somebody destroyed it meanwhile.
        let Some(estate) = self.0.restarting.borrow_mut().remove(name) else { return };
        if let Err(error) = self.create_with(config, estate, Start::Running).await {
            log::error!("{name} cannot be started again: {error}");
        }
    }
}
