//! Making domains and ending them.
//!
//! A domain ends in steps that each take bounded time, so that the toolstack's hypercall can be
//! interrupted between them. First its vCPUs leave the CPUs; then whatever it holds of others is
//! released (event channels, grants, foreign mappings), then its own RAM is given back. At the
//! end its record is unlinked and every frame that the monitor still kept for it is swept up: so
//! nothing leaks even from a domain that was only half built.
//!
//! Frames that other domains still map stay with them and in the dead domain's account. While
//! that is not empty, the identifier is not used again.

#[cfg(test)]
mod tests;

use abi::{DomId, Errno};

use super::domain::{Domain, DomainConfig, Teardown};
use super::frame::OutOfFrames;
use super::{Monitor, Privileged};
use crate::machine::timer;
use crate::types::MAX_VCPUS;

/// Whether a long operation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// There is more to do.
    More,
    /// It is done.
    Done,
}

/// Why a domain cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// A domain has 1 to [`MAX_VCPUS`] vCPUs.
    VcpuCount,
    /// All identifiers are in use.
    TooManyDomains,
    /// No frames for its records.
    OutOfFrames(OutOfFrames),
}

impl From<CreateError> for Errno {
    fn from(error: CreateError) -> Errno {
        match error {
            CreateError::VcpuCount => Errno::EINVAL,
            CreateError::TooManyDomains => Errno::ENOSPC,
            CreateError::OutOfFrames(error) => error.into(),
        }
    }
}

impl Monitor {
    /// Makes a paused domain with offline vCPUs and no RAM.
    pub fn create_domain(
        &mut self,
        _: Privileged,
        config: &DomainConfig,
    ) -> Result<DomId, CreateError> {
        if config.max_vcpus == 0 || config.max_vcpus as usize > MAX_VCPUS {
            return Err(CreateError::VcpuCount);
        }
        let id = self.domains.next_id(&self.frames).ok_or(CreateError::TooManyDomains)?;
        if !self.frames.open_account(id, config.max_frames) {
            return Err(CreateError::TooManyDomains);
        }
        match Domain::build(&mut self.frames, id, config) {
            Ok(domain) => {
                self.domains.insert(domain);
                self.scheduler.add_domain(id, config.max_vcpus, timer::now());
                Ok(id)
            }
            Err(error) => {
                self.end_account(id);
                Err(CreateError::OutOfFrames(error))
            }
        }
    }

    /// Does a bounded part of destroying a domain. `Done` when every frame that nobody else holds
    /// is free; then the domain is gone, but for its account if others still hold frames.
    pub fn destroy_step(&mut self, _: Privileged, id: DomId) -> Result<Progress, Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::ESRCH)?;
        if domain.privileged {
            return Err(Errno::EINVAL);
        }
        let phase = *domain.teardown.get_or_insert(Teardown::Vcpus);
        let (progress, next) = match phase {
            Teardown::Vcpus => (self.stop_vcpus(id), Teardown::Events),
            Teardown::Events => (self.close_events(id), Teardown::Grants),
            Teardown::Grants => (self.release_grants(id), Teardown::Space),
            Teardown::Space => (self.dismantle_space(id), Teardown::Ram),
            Teardown::Ram => {
                if self.frames.surrender_some(id) {
                    return Ok(Progress::More);
                }
                self.bury(id);
                return Ok(Progress::Done);
            }
        };
        if progress == Progress::Done
            && let Some(domain) = self.domains.get_mut(id)
        {
            domain.teardown = Some(next);
        }
        Ok(Progress::More)
    }

    /// Takes a dying domain's vCPUs from the CPUs. Not done while one of them is on another CPU.
    fn stop_vcpus(&mut self, id: DomId) -> Progress {
        let Some(domain) = self.domains.get(id) else { return Progress::Done };
        let keys: heapless::Vec<_, MAX_VCPUS> = domain.all_vcpus().map(|vcpu| vcpu.key).collect();
        let mut progress = Progress::Done;
        for key in keys {
            if let Err(cpu) = self.scheduler.remove(key, timer::now()) {
                self.kicks.insert(cpu);
                progress = Progress::More;
            }
        }
        progress
    }

    fn dismantle_space(&mut self, id: DomId) -> Progress {
        let Some(domain) = self.domains.get_mut(id) else { return Progress::Done };
        domain.stage2.dismantle(&mut self.frames)
    }

    /// Frees a domain's records.
    fn bury(&mut self, id: DomId) {
        self.watchdogs.forget(id);
        let Some(mut domain) = self.domains.remove(id) else { return };
        for vcpu in domain.vcpus.iter_mut().filter_map(Option::take) {
            vcpu.free(&mut self.frames).free(&mut self.frames);
        }
        // The record itself goes with the rest of the account's overhead.
        drop(domain);
        self.end_account(id);
    }

    fn end_account(&mut self, id: DomId) {
        self.frames.sweep_overhead(id);
        self.frames.close_account(id);
    }
}
