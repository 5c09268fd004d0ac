//! Learns from the monitor which domains have stopped, and does with them what their domain file
//! says.

use core::time::Duration;

use abi::{DomId, Errno, domctl::DomainState, event::Virq, sched::ShutdownReason};
use pv_guest_kernel::{event::Channel, executor, time};

use super::{
    Toolstack,
    config::{Action, DomainConfig},
    create::Start,
    destroy::Claim,
    domain::{End, Phase},
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
        let Some(config) = self.running_config(id) else { return };
        if !end.is_success() {
            log::warn!("{id}: {} {end}", config.name);
        }
        match config.action(reason) {
            Action::Preserve => self.preserve(id, end),
            Action::Destroy => {
                let Some(claim) = self.claim(id) else { return };
                let toolstack = self.clone();
                executor::spawn(async move { toolstack.dismantle(claim, end).await }).detach();
            }
            Action::Restart => {
                let Some(claim) = self.claim(id) else { return };
                executor::spawn(self.clone().restart(claim, end)).detach();
            }
        }
    }

    /// What a domain that counts as running was made from.
    fn running_config(&self, id: DomId) -> Option<DomainConfig> {
        let domains = self.0.domains.borrow();
        let domain = domains.get(&id).filter(|domain| domain.phase == Phase::Running)?;
        Some(domain.config.clone())
    }

    fn preserve(&self, id: DomId, end: End) {
        if let Some(domain) = self.0.domains.borrow_mut().get_mut(&id) {
            log::warn!("{id}: it is preserved until xl destroy {}", domain.config.name);
            domain.phase = Phase::Preserved;
            domain.ended.tell(end);
        }
        self.0.services.store_server.announce_shutdown();
    }

    async fn restart(self, claim: Claim, end: End) {
        let config = claim.config.clone();
        let name = config.name.clone();
        self.0.restarting.borrow_mut().insert(name.clone());
        self.dismantle(claim, end).await;
        time::sleep(RESTART_DELAY).await;
        // Unless somebody destroyed it meanwhile.
        if !self.0.restarting.borrow_mut().remove(&name) {
            return;
        }
        if let Err(error) = self.create_from(config, Start::Running).await {
            log::error!("{name} cannot be started again: {error}");
        }
    }
}
