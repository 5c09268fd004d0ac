//! From a domain file to a domain that runs.

use alloc::string::ToString;

use abi::{DomId, Errno};
use pv_guest_kernel::hypercall;

use super::{
    Toolstack, block,
    build::{self, Site},
    config::{DomainConfig, Override},
    destroy::Claim,
    domain::{Domain, End},
    error::{Error, failed},
    estate::Estate,
    handshake, memory,
    plan::Plan,
    scheduling,
    store_entries::Ends,
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
    async fn create_from(&self, config: DomainConfig, start: Start) -> Result<DomId, Error> {
        let mut estate = Estate::new(&self.0.registry, &config.name)?;
        for device in config.devices() {
            let sectors = block::sectors(&device).await?;
            estate.add(device, sectors)?;
        }
        self.create_with(config, estate, start).await
    }

    /// The same with a name and devices that are the new domain's already.
    pub(super) async fn create_with(
        &self,
        config: DomainConfig,
        estate: Estate,
        start: Start,
    ) -> Result<DomId, Error> {
        let plan = Plan::new(&config, self.ramdisk())?;
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
        let site = Site::new(id, &config, &estate);
        self.0.domains.borrow_mut().insert(id, Domain::new(config, estate));
        match self.build_and_start(&site, &plan, start).await {
            Ok(()) => Ok(id),
            Err(error) => {
                drop(self.dismantle(Claim::by_builder(id), End::Destroyed).await);
                Err(explain(error))
            }
        }
    }

    async fn build_and_start(
        &self,
        site: &Site,
        plan: &Plan<'_>,
        start: Start,
    ) -> Result<(), Error> {
        scheduling::apply(site.domain, &site.config)?;
        build::fill(&self.0.services, site, plan).await?;
        for (id, _) in &site.devices {
            let ends = Ends::of(site.domain, *id);
            handshake::backend_ready(&self.0.services.store, *id, &ends).await?;
        }
        let mut domains = self.0.domains.borrow_mut();
        if !domains.get_mut(&site.domain).is_some_and(Domain::built) {
            let state = "was destroyed while it was being built";
            return Err(Error::WrongState { name: site.name.clone(), state });
        }
        drop(domains);
        match start {
            Start::Paused => Ok(()),
            Start::Running => {
                hypercall::domctl::unpause(site.domain).map_err(failed("start the domain"))
            }
        }
    }
}

fn free_frames() -> Result<u64, Error> {
    let machine = hypercall::sysctl::phys_info().map_err(failed("ask for free memory"))?;
    Ok(machine.free_frames)
}
