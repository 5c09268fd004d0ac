//! Makes, watches and ends domains.
//!
//! * [`config`], [`disk`], [`vif`], [`generic`], [`device`]: what a person writes about a domain.
//! * [`image`], `device_tree`, `plan`: from that to the contents of its memory. Nothing exists yet.
//! * `create`, `build`, `memory`, `store_entries`: makes it.
//! * `scheduling`, [`cpus`]: its share of the CPUs, and which it may use.
//! * `control`, `vcpus`, `ballooning`: what one may ask of it while it runs.
//! * `identity`: what it is called, and how long it has been there.
//! * `hotplug`, `handshake`, `block`: its devices, while it runs.
//! * `ownership`, `estate`: what only one domain may have at a time, and who has it.
//! * `reaper`: learns of domains that stop, and does what their domain file says.
//! * `destroy`, `teardown`: takes it apart, from whatever state it is in.

mod ballooning;
mod block;
mod build;
pub mod config;
mod control;
pub mod cpus;
mod create;
mod destroy;
pub mod device;
mod device_tree;
pub mod disk;
mod domain;
mod error;
mod estate;
pub mod generic;
mod handshake;
mod hotplug;
mod identity;
pub mod image;
mod memory;
mod ownership;
mod plan;
mod rate;
mod reaper;
mod scheduling;
pub(crate) mod store_entries;
pub(crate) mod teardown;
mod vcpus;
pub mod vif;

use alloc::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::cell::RefCell;

use abi::{DomId, Errno, domctl::DomainInfo};
use pv_guest_kernel::{executor, hypercall, xenstore::Client};

pub use self::{
    block::DiskUse,
    control::Request,
    create::Start,
    domain::{Configuration, End, Ended, Memory, Past, Summary},
    error::Error,
    handshake::{Side, Status},
    hotplug::Device,
    identity::clock,
    scheduling::{Vcpu, Vcpus},
    vcpus::publish as publish_vcpus,
};
use self::{
    domain::{Domain, Phase},
    error::failed,
    estate::Estate,
    ownership::{Owned, Owner, Registry, Thing},
};
use crate::{console, network::DOM0_ADDRESS, ramdisk::Ramdisk, store};

/// Domains that are gone and of which the last output is kept.
const PAST_MAX: usize = 8;
/// Domains that the monitor lists at once.
const LIST_BATCH: usize = 32;
const DOM0_NAME: &str = "dom0";
const UNKNOWN: &str =
    "is not one that this toolstack made, or only waits for its memory to be let go";

/// What the toolstack uses.
#[derive(Debug)]
pub struct Services {
    /// Kernels and domain files.
    pub ramdisk: Ramdisk,
    /// Serves the domains' store rings.
    pub store_server: store::Server,
    /// Our own view of the store.
    pub store: Client,
    /// Serves the domains' consoles.
    pub consoles: console::Backend,
}

/// The toolstack. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Toolstack(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    services: Services,
    domains: RefCell<BTreeMap<DomId, Domain>>,
    past: RefCell<VecDeque<Past>>,
    /// What domains have, by their names, that are gone and will be made again in a moment.
    restarting: RefCell<BTreeMap<String, Estate>>,
    /// Who has what only one can have.
    registry: Registry,
    /// What nobody but dom0 has.
    _dom0: Owned,
}

/// What one can look at of a domain's console.
#[derive(Debug)]
pub enum Console {
    /// The domain is there.
    Open {
        /// The domain's name.
        name: String,
        /// Its console.
        session: console::Session,
        /// Told when the domain has ended.
        ended: Rc<Ended>,
    },
    /// The domain is gone.
    Past(Past),
}

impl Toolstack {
    /// Starts it: from now on domains that stop are noticed.
    ///
    /// # Errors
    /// The monitor does not tell us of domains.
    pub fn start(services: Services) -> Result<Toolstack, Errno> {
        let toolstack = Toolstack::new(services)?;
        executor::spawn(reaper::run(toolstack.clone(), reaper::bind()?)).detach();
        Ok(toolstack)
    }

    /// One that knows of no domain but dom0.
    fn new(services: Services) -> Result<Toolstack, Errno> {
        let registry = Registry::default();
        let own = [Thing::Name(DOM0_NAME.to_string()), Thing::Address(DOM0_ADDRESS)];
        let _dom0 = registry.take(&Owner::new(DOM0_NAME), own).map_err(|_| Errno::EEXIST)?;
        let (domains, past, restarting) = Default::default();
        Ok(Toolstack(Rc::new(Inner { services, domains, past, restarting, registry, _dom0 })))
    }

    /// Kernels and domain files.
    pub fn ramdisk(&self) -> &Ramdisk {
        &self.0.services.ramdisk
    }

    /// Names of the domains that the toolstack made.
    pub fn names(&self) -> Vec<String> {
        self.0.domains.borrow().values().map(|domain| domain.estate.name()).collect()
    }

    /// All domains that exist, dom0 first.
    ///
    /// # Errors
    /// The monitor's.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        let mut summaries = Vec::new();
        let mut first = DomId::DOM0;
        loop {
            let mut infos = vec![DomainInfo::default(); LIST_BATCH];
            let count = hypercall::sysctl::domain_infos(first, &mut infos)
                .map_err(failed("list the domains"))?;
            infos.truncate(count);
            let last = infos.last().map(|info| info.domain);
            summaries.extend(infos.into_iter().map(|info| self.summary(info)));
            match last.and_then(|last| last.0.checked_add(1)) {
                Some(next) if count == LIST_BATCH => first = DomId(next),
                _ => return Ok(summaries),
            }
        }
    }

    fn summary(&self, info: DomainInfo) -> Summary {
        let name = match info.domain {
            DomId::DOM0 => DOM0_NAME.to_string(),
            id => self
                .0
                .domains
                .borrow()
                .get(&id)
                .map_or_else(|| "(null)".to_string(), |domain| domain.estate.name()),
        };
        Summary { name, info }
    }

    /// The domain with this name or number, dom0 included.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Summary, Error> {
        let summaries = self.list()?;
        let number = name.parse().ok().map(DomId);
        let is_it =
            |summary: &&Summary| summary.name == name || Some(summary.info.domain) == number;
        summaries.iter().find(is_it).cloned().ok_or_else(|| Error::UnknownDomain {
            name: name.to_string(),
            known: summaries.iter().map(|summary| summary.name.clone()).collect(),
        })
    }

    /// The same for what cannot be done to dom0.
    fn find_guest(&self, name: &str) -> Result<Summary, Error> {
        match self.find(name)? {
            Summary { info: DomainInfo { domain: DomId::DOM0, .. }, .. } => Err(Error::Privileged),
            guest => Ok(guest),
        }
    }

    /// What a domain was made from and has now; None if this toolstack did not make it.
    pub fn configuration(&self, guest: &Summary) -> Option<Configuration> {
        let domains = self.0.domains.borrow();
        let Domain { config, memory, estate, .. } = domains.get(&guest.info.domain)?;
        let devices = estate.devices().map(|(id, device)| (id, device.clone())).collect();
        Some(Configuration { config: config.clone(), memory: *memory, devices })
    }

    /// Looks at or changes what is known of a domain that is neither being built nor being taken
    /// apart.
    fn with<R>(&self, guest: &Summary, act: impl FnOnce(&mut Domain) -> R) -> Result<R, Error> {
        let mut domains = self.0.domains.borrow_mut();
        let domain = domains.get_mut(&guest.info.domain);
        let state = match domain.map(|domain| (domain.phase, domain)) {
            Some((Phase::Running | Phase::Preserved, domain)) => return Ok(act(domain)),
            Some((Phase::Building, _)) => "is still being built",
            Some((Phase::Cancelled | Phase::Ending, _)) => "is being taken down",
            None => UNKNOWN,
        };
        Err(Error::WrongState { name: guest.name.clone(), state })
    }

    /// Looks at the console of the domain with this name or number, or of the last one that had
    /// it.
    ///
    /// # Errors
    /// There is and was none.
    pub fn console(&self, name: &str) -> Result<Console, Error> {
        let guest = match self.find_guest(name) {
            Ok(guest) => guest,
            Err(error) => return self.past(name).map(Console::Past).ok_or(error),
        };
        let id = guest.info.domain;
        let ended = self.0.domains.borrow().get(&id).map(|domain| domain.ended.clone());
        match (self.0.services.consoles.open(id), ended) {
            (Some(session), Some(ended)) => Ok(Console::Open { name: guest.name, session, ended }),
            _ => Err(Error::WrongState { name: guest.name, state: "has no console" }),
        }
    }

    /// The youngest domain that is gone and had this name or number.
    fn past(&self, name: &str) -> Option<Past> {
        let number = name.parse().ok().map(DomId);
        let past = self.0.past.borrow();
        past.iter().rev().find(|past| past.name == name || Some(past.id) == number).cloned()
    }
}

#[cfg(test)]
mod tests;
