//! Makes, watches and ends domains.
//!
//! * [`config`], [`disk`]: what a person writes about a domain.
//! * [`image`], `device_tree`, `plan`: from that to the contents of its memory. Nothing exists yet.
//! * `build`, `memory`, `store_entries`: makes it.
//! * `reaper`: learns of domains that stop, and does what their domain file says.
//! * `devices`, [`Toolstack::dismantle`]: takes it apart, from whatever state it is in.
//!
//! There is one way to take a domain apart, and it serves for `xl destroy`, for a domain that has
//! stopped and for one that could not be built to the end: so nothing is left behind by any.

mod build;
pub mod config;
mod device_tree;
pub mod devices;
pub mod disk;
mod domain;
mod error;
pub mod image;
mod memory;
mod plan;
mod reaper;
mod store_entries;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::cell::RefCell;

use abi::{DomId, Errno, domctl::DomainInfo};
use pv_guest_kernel::{executor, hypercall, xenstore::Client};

use self::{
    config::{DomainConfig, Override},
    disk::{Access, DiskSpec},
    domain::{Domain, Phase},
    error::failed,
    plan::Plan,
};
pub use self::{
    domain::{End, Ended, Past, Summary},
    error::Error,
};
use crate::{block, console, ramdisk::Ramdisk, store};

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

/// The right to take a domain apart, which only one task has.
#[derive(Debug)]
struct Claim {
    id: DomId,
    config: DomainConfig,
    ended: Rc<Ended>,
    /// How far it was.
    was: Phase,
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

    async fn create_from(&self, config: DomainConfig) -> Result<DomId, Error> {
        let plan = Plan::new(&config, self.ramdisk())?;
        self.check_name(&config.name)?;
        self.check_disks(&config)?;
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

    /// Every disk exists, and those that anybody may write have one user.
    fn check_disks(&self, config: &DomainConfig) -> Result<(), Error> {
        let known = block::disks::list();
        let domains = self.0.domains.borrow();
        for (index, disk) in config.disk.iter().enumerate() {
            let target = disk.target.clone();
            let Some(info) = known.iter().find(|known| known.name == target) else {
                let known = known.iter().map(|known| known.name.clone()).collect();
                return Err(Error::UnknownDisk { name: target, known });
            };
            if info.read_only && disk.access == Access::ReadWrite {
                return Err(Error::DiskReadOnly { disk: target });
            }
            let own = (config.name.as_str(), config.disk.get(..index).unwrap_or_default());
            let others = domains
                .values()
                .map(|domain| (domain.config.name.as_str(), domain.config.disk.as_slice()));
            let in_use = |(_, disks): &(&str, &[DiskSpec])| {
                disks.iter().any(|other| other.conflicts_with(disk))
            };
            if let Some((user, _)) = others.chain([own]).find(in_use) {
                return Err(Error::DiskInUse { disk: target, user: user.to_string() });
            }
        }
        Ok(())
    }

    /// The machine's disks.
    pub fn disks(&self) -> Vec<DiskUse> {
        let domains = self.0.domains.borrow();
        let users = |name: &str| {
            domains
                .values()
                .filter(|domain| domain.config.disk.iter().any(|disk| disk.target == name))
                .map(|domain| domain.config.name.clone())
                .collect()
        };
        let known = block::disks::list().into_iter();
        known
            .map(|disk| DiskUse { users: users(&disk.name), name: disk.name, bytes: disk.bytes })
            .collect()
    }

    /// Stops the domain's vCPUs until [`Toolstack::unpause`].
    ///
    /// # Errors
    /// There is no such domain; the monitor's.
    pub fn pause(&self, name: &str) -> Result<(), Error> {
        let id = self.find_guest(name)?.info.domain;
        hypercall::domctl::pause(id).map_err(failed("pause the domain"))
    }

    /// Lets the domain's vCPUs go on.
    ///
    /// # Errors
    /// There is no such domain; it is not paused.
    pub fn unpause(&self, name: &str) -> Result<(), Error> {
        let id = self.find_guest(name)?.info.domain;
        hypercall::domctl::unpause(id).map_err(failed("unpause the domain"))
    }

    /// Asks the domain to power off. Whoever wants to can wait for its end.
    ///
    /// # Errors
    /// There is no such domain; it does not listen.
    pub async fn shutdown(&self, name: &str) -> Result<Rc<Ended>, Error> {
        let Summary { name, info } = self.find_guest(name)?;
        let ended = self.running(info.domain, &name)?;
        let control = format!("{}/control", store_entries::domain_path(info.domain));
        let feature = self.0.services.store.read(&format!("{control}/feature-poweroff")).await;
        if !feature.is_ok_and(|feature| feature == "1") {
            return Err(Error::NoShutdownSupport { name });
        }
        let request = format!("{control}/shutdown");
        let written = self.0.services.store.write(&request, "poweroff").await;
        written.map_err(failed("ask the domain to power off"))?;
        Ok(ended)
    }

    /// The end of a domain that runs.
    fn running(&self, id: DomId, name: &str) -> Result<Rc<Ended>, Error> {
        let domains = self.0.domains.borrow();
        let state = match domains.get(&id).map(|domain| (domain.phase, &domain.ended)) {
            Some((Phase::Running, ended)) => return Ok(ended.clone()),
            Some((Phase::Building, _)) => "is still being built",
            Some((Phase::Preserved, _)) => "has stopped already and is preserved; use xl destroy",
            Some((Phase::Ending, _)) => "is being taken down",
            None => UNKNOWN,
        };
        Err(Error::WrongState { name: name.to_string(), state })
    }

    /// Destroys the domain, whatever it does; one that is about to be started again is not.
    ///
    /// # Errors
    /// There is no such domain.
    pub async fn destroy(&self, name: &str) -> Result<(), Error> {
        if self.0.restarting.borrow_mut().remove(name) {
            return Ok(());
        }
        let Summary { name, info } = self.find_guest(name)?;
        if let Some(claim) = self.claim(info.domain) {
            self.dismantle(claim, End::Destroyed).await;
            return Ok(());
        }
        let ended = self.0.domains.borrow().get(&info.domain).map(|domain| domain.ended.clone());
        match ended {
            Some(ended) => drop(ended.wait().await),
            None => return Err(Error::WrongState { name, state: UNKNOWN }),
        }
        Ok(())
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

    /// Takes a domain apart, whatever state building it or running it left it in; returns when it
    /// is gone. Only the monitor can keep it longer: until nobody maps its memory any more.
    async fn dismantle(&self, claim: Claim, end: End) {
        let Claim { id, config, ended, was } = claim;
        let Services { store_server, store, consoles, .. } = &self.0.services;
        // It may be stopped already: what matters is that it does not run from here on.
        let _ = hypercall::domctl::pause(id);
        devices::detach(store, id, &config.disk).await;
        let output = self.close_console(consoles, id).await;
        // A domain that failed half-built may have no connection yet.
        let _ = store_server.release(id);
        if let Err(error) = store_entries::remove(store, id).await {
            log::error!("{id}: its entries in the store: {error}");
        }
        if let Err(error) = hypercall::domctl::destroy(id) {
            log::error!("{id}: cannot be destroyed: {error}");
        }
        self.0.domains.borrow_mut().remove(&id);
        if was != Phase::Building {
            self.remember(Past { name: config.name, id, end, output });
        }
        ended.tell(end);
    }

    /// The right to take a domain apart; None if somebody else has it, or there is no domain.
    fn claim(&self, id: DomId) -> Option<Claim> {
        let mut domains = self.0.domains.borrow_mut();
        let domain = domains.get_mut(&id).filter(|domain| domain.phase != Phase::Ending)?;
        let was = core::mem::replace(&mut domain.phase, Phase::Ending);
        Some(Claim { id, config: domain.config.clone(), ended: domain.ended.clone(), was })
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

fn free_frames() -> Result<u64, Error> {
    let machine = hypercall::sysctl::phys_info().map_err(failed("ask for free memory"))?;
    Ok(machine.free_frames)
}
