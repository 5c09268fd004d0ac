//! From a domain file to a domain that runs.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};

use abi::{DomId, Errno};
use pv_guest_kernel::hypercall;

use super::{
    DOM0_NAME, Toolstack, build,
    config::{DomainConfig, Override},
    disk::{Access, DiskSpec},
    domain::{Domain, End},
    error::{Error, failed},
    memory,
    plan::Plan,
    scheduling,
};
use crate::block::{
    self,
    disks::{ClaimError, Place},
};

impl Toolstack {
    /// Makes the domain that a domain file describes, with keys replaced, and lets it run.
    ///
    /// # Errors
    /// Says what is wrong; nothing is left of the domain then.
    pub async fn create(&self, file: &str, overrides: &[Override]) -> Result<DomId, Error> {
        let ramdisk = self.ramdisk();
        let text = ramdisk.domain_file(file).ok_or_else(|| Error::UnknownConfig {
            name: file.to_string(),
            known: ramdisk.domain_names().map(ToString::to_string).collect(),
        })?;
        let config = DomainConfig::parse(text, overrides)
            .map_err(|error| Error::Config { file: file.to_string(), error })?;
        self.create_from(config).await
    }

    /// The same from what a domain file says.
    pub(super) async fn create_from(&self, config: DomainConfig) -> Result<DomId, Error> {
        let plan = Plan::new(&config, self.ramdisk())?;
        self.check_name(&config.name)?;
        self.check_disks(&config).await?;
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
        match self.build_and_start(id, &config, &plan).await {
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
    ) -> Result<(), Error> {
        scheduling::apply(id, config)?;
        build::fill(&self.0.services, id, config, plan).await?;
        if let Some(domain) = self.0.domains.borrow_mut().get_mut(&id) {
            domain.built();
        }
        hypercall::domctl::unpause(id).map_err(failed("start the domain"))
    }

    fn check_name(&self, name: &str) -> Result<(), Error> {
        let domains = self.0.domains.borrow();
        let taken = domains.iter().find(|(_, domain)| domain.config.name == name);
        let id = match taken {
            Some((&id, _)) => id,
            None if name == DOM0_NAME => DomId::DOM0,
            None => return Ok(()),
        };
        Err(Error::NameTaken { name: name.to_string(), id })
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

    /// Every disk exists, and sectors that anybody may write have one user.
    async fn check_disks(&self, config: &DomainConfig) -> Result<(), Error> {
        let mut taken = Vec::new();
        for (name, disks) in self.other_disks() {
            for (place, access) in places(&disks).await.unwrap_or_default() {
                taken.push((name.clone(), place, access));
            }
        }
        for (place, access) in places(&config.disk).await? {
            if place.read_only && access == Access::ReadWrite {
                return Err(Error::DiskReadOnly { disk: place.disk });
            }
            let in_use = |(_, other, theirs): &&(String, Place, Access)| {
                let written = access == Access::ReadWrite || *theirs == Access::ReadWrite;
                written && other.overlaps(&place)
            };
            if let Some((user, ..)) = taken.iter().find(in_use) {
                return Err(Error::DiskInUse { disk: place.disk, user: user.clone() });
            }
            taken.push((config.name.clone(), place, access));
        }
        Ok(())
    }

    /// What the domains have that there are.
    fn other_disks(&self) -> Vec<(String, Vec<DiskSpec>)> {
        let domains = self.0.domains.borrow();
        domains
            .values()
            .map(|domain| (domain.config.name.clone(), domain.config.disk.clone()))
            .collect()
    }
}

/// The sectors of real disks that these use.
async fn places(disks: &[DiskSpec]) -> Result<Vec<(Place, Access)>, Error> {
    let mut places = Vec::new();
    for (name, part, access) in disks.iter().flat_map(DiskSpec::uses) {
        let place = block::disks::find(name, part).await.map_err(|error| match error {
            ClaimError::Absent { .. } => {
                let known = block::disks::list().into_iter().map(|disk| disk.name).collect();
                Error::UnknownDisk { name: name.to_string(), known }
            }
            other => Error::DiskPart(other),
        })?;
        places.push((place, access));
    }
    Ok(places)
}

fn free_frames() -> Result<u64, Error> {
    let machine = hypercall::sysctl::phys_info().map_err(failed("ask for free memory"))?;
    Ok(machine.free_frames)
}
