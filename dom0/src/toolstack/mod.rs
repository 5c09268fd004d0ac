//! Makes, watches and ends domains.
//!
//! * [`config`], [`disk`], [`vif`], [`device`]: what a person writes about a domain.
//! * [`image`], `device_tree`, `plan`: from that to the contents of its memory. Nothing exists yet.
//! * `create`, `build`, `memory`, `store_entries`: makes it.
//! * `scheduling`, [`cpus`]: its share of the CPUs, and which it may use.
//! * `control`, `vcpus`, `ballooning`: what one may ask of it while it runs.
//! * `identity`: what it is called, and how long it has been there.
//! * `network`, `hotplug`: interfaces, and devices of any class, while a domain runs.
//! * `reaper`: learns of domains that stop, and does what their domain file says.
//! * `destroy`, `devices`: takes it apart, from whatever state it is in.

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
pub(crate) mod devices;
pub mod disk;
mod domain;
mod error;
mod hotplug;
mod identity;
pub mod image;
mod memory;
mod network;
mod plan;
mod rate;
mod reaper;
mod scheduling;
pub(crate) mod store_entries;
mod vcpus;
pub mod vif;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::cell::RefCell;

use abi::{DomId, Errno, domctl::DomainInfo};
use pv_guest_kernel::{executor, hypercall, xenstore::Client};

pub use self::{
    block::AttachedDisk,
    control::Request,
    create::Start,
    domain::{End, Ended, Past, Summary},
    error::Error,
    hotplug::{Device, Status},
    identity::clock,
    network::Interface,
    scheduling::{Vcpu, Vcpus},
    vcpus::publish as publish_vcpus,
};
use self::{domain::Domain, error::failed};
use crate::{console, ramdisk::Ramdisk, store};

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
    /// Names of domains that are gone and will be made again in a moment.
    restarting: RefCell<BTreeSet<String>>,
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

/// One of the machine's disks and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Names of the domains.
    pub users: Vec<String>,
}

impl Toolstack {
    /// Starts it: from now on domains that stop are noticed.
    ///
    /// # Errors
    /// The monitor does not tell us of domains.
    pub fn start(services: Services) -> Result<Toolstack, Errno> {
        let toolstack = Toolstack(Rc::new(Inner {
            services,
            domains: RefCell::default(),
            past: RefCell::default(),
            restarting: RefCell::default(),
        }));
        executor::spawn(reaper::run(toolstack.clone(), reaper::bind()?)).detach();
        Ok(toolstack)
    }

    /// Kernels and domain files.
    pub fn ramdisk(&self) -> &Ramdisk {
        &self.0.services.ramdisk
    }

    /// Names of the domains that the toolstack made.
    pub fn names(&self) -> Vec<String> {
        self.0.domains.borrow().values().map(|domain| domain.config.name.clone()).collect()
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
                .map_or_else(|| "(null)".to_string(), |domain| domain.config.name.clone()),
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

    /// The machine's disks.
    pub fn disks(&self) -> Vec<DiskUse> {
        let domains = self.0.domains.borrow();
        let users = |name: &str| {
            domains
                .values()
                .filter(|domain| domain.config.uses_disk(name))
                .map(|domain| domain.config.name.clone())
                .collect()
        };
        let known = crate::block::disks::list().into_iter();
        known
            .map(|disk| DiskUse { users: users(&disk.name), name: disk.name, bytes: disk.bytes })
            .collect()
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
