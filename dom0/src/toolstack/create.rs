//! From a domain file to a domain that runs.

use alloc::{collections::BTreeSet, string::ToString};

use abi::{DomId, Errno};
use pv_guest_kernel::hypercall;

use super::{
    Toolstack, build,
    config::{DomainConfig, Override},
    domain::{Domain, End},
    error::{Error, failed},
    memory,
    plan::Plan,
    scheduling,
};

/// What a domain does when it has been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It runs.
    Running,
    /// It waits for [`Toolstack::unpause`].
    Paused,
}

impl Toolstack {
    /// Makes the domain that a domain file describes, with keys replaced.
    ///
    /// # Errors
    /// Says what is wrong; nothing is left of the domain then.
    pub async fn create(
        &self,
        file: &str,
        overrides: &[Override],
        start: Start,
    ) -> Result<DomId, Error> {
        let ramdisk = self.ramdisk();
        let text = ramdisk.domain_file(file).ok_or_else(|| Error::UnknownConfig {
            name: file.to_string(),
            known: ramdisk.domain_names().map(ToString::to_string).collect(),
        })?;
        let config = DomainConfig::parse(text, overrides)
            .map_err(|error| Error::Config { file: file.to_string(), error })?;
        self.create_from(config, start).await
    }

    /// The same from what a domain file says.
    pub(super) async fn create_from(
        &self,
        config: DomainConfig,
        start: Start,
    ) -> Result<DomId, Error> {
        let plan = Plan::new(&config, self.ramdisk())?;
        self.check_name_is_free(&config.name)?;
        self.check_disks(&config.name, &config.disk).await?;
        self.check_addresses(&config).await?;
        let free_frames = free_frames()?;
        let out_of_memory = Error::OutOfMemory { needed: config.memory, free_frames };
        if free_frames < memory::frames(config.memory) {
            return Err(out_of_memory);
        }
        let explain = |error| match error {
            Error::Failed { errno: Errno::ENOMEM, .. } => out_of_memory.clone(),
            other => other,
        };

        let id = build::create_empty(&config).map_err(failed("make a domain")).map_err(explain)?;
        // From here on its name and disks are taken.
        self.0.domains.borrow_mut().insert(id, Domain::new(config.clone()));
        match self.build_and_start(id, &config, &plan, start).await {
            Ok(()) => Ok(id),
            Err(error) => {
                if let Some(claim) = self.claim(id) {
                    self.dismantle(claim, End::Destroyed).await;
                }
                Err(explain(error))
            }
        }
    }

    async fn build_and_start(
        &self,
        id: DomId,
        config: &DomainConfig,
        plan: &Plan<'_>,
        start: Start,
    ) -> Result<(), Error> {
        scheduling::apply(id, config)?;
        build::fill(&self.0.services, id, config, plan).await?;
        if let Some(domain) = self.0.domains.borrow_mut().get_mut(&id) {
            domain.built();
        }
        match start {
            Start::Paused => Ok(()),
            Start::Running => hypercall::domctl::unpause(id).map_err(failed("start the domain")),
        }
    }

    /// Every interface has an address of its own.
    async fn check_addresses(&self, config: &DomainConfig) -> Result<(), Error> {
        let addresses =
            (0..).zip(&config.vif).map(|(number, vif)| vif.address(&config.name, number));
        let mut seen = BTreeSet::new();
        for address in addresses {
            if !seen.insert(address) {
                return Err(Error::AddressInUse { address, user: config.name.clone() });
            }
            self.check_address(address).await?;
        }
        Ok(())
    }
}

fn free_frames() -> Result<u64, Error> {
    let machine = hypercall::sysctl::phys_info().map_err(failed("ask for free memory"))?;
    Ok(machine.free_frames)
}
