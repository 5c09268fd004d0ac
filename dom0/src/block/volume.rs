//! What a guest's disk is made of.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::DomId;
use abi::block::SECTOR_SIZE;
use futures_util::future::FutureExt;
use pv_guest_kernel::memory::{self, OutOfMemory};
use pv_guest_kernel::vcpu_local;
use thiserror::Error;

use super::disks::{self, Claim, ClaimError, Mode};
use super::extent::Extent;
use super::overlay::Overlay;
use super::request::Limits;
use super::target::Target;
use super::work::{Progress, Work};

vcpu_local! {
    /// What outlives a connection, by the backend's directory: what a guest wrote that is nowhere
    /// else.
    static KEPT: RefCell<BTreeMap<String, Rc<Volume>>> = RefCell::new(BTreeMap::new());
}

/// Why there is no such volume.
#[derive(Debug, Error)]
pub(super) enum VolumeError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("{wanted} KiB of dom0's memory are too much for disks; {free} KiB may be used")]
    Memory { wanted: u64, free: u64 },
    #[error("a disk in memory has no base: leave out `overlay`")]
    NoBase,
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What a guest's disk is made of.
pub(super) struct Volume {
    content: Content,
    /// Bytes of dom0's memory that it may come to use.
    ram: u64,
    _claims: Vec<Claim>,
}

enum Content {
    Extent(Extent),
    Overlay(Rc<Overlay>),
}

impl Volume {
    /// The volume of a device. If it holds what is nowhere else it stays until it is [forgotten].
    /// What its last user began is done: nothing old comes after something newer.
    ///
    /// [forgotten]: forget
    pub(super) async fn open(
        path: &str,
        target: &Target,
        overlay: Option<&Target>,
        user: DomId,
        mode: Mode,
    ) -> Result<Rc<Volume>, VolumeError> {
        let kept = KEPT.with(|kept| kept.borrow().get(path).cloned());
        let volume = match kept {
            Some(volume) => volume,
            None => {
                let volume = Rc::new(Volume::new(target, overlay, user, mode).await?);
                if matches!(volume.content, Content::Overlay(_)) {
                    KEPT.with(|kept| kept.borrow_mut().insert(path.into(), volume.clone()));
                }
                volume
            }
        };
        volume.settled().await;
        Ok(volume)
    }

    async fn new(
        target: &Target,
        overlay: Option<&Target>,
        user: DomId,
        mode: Mode,
    ) -> Result<Volume, VolumeError> {
        let (disk, part) = match (target, overlay) {
            (&Target::Ram { bytes }, None) => {
                let overlay =
                    Overlay::in_ram(bytes / SECTOR_SIZE as u64, None, within_memory(bytes)?)?;
                let content = Content::Overlay(Rc::new(overlay));
                return Ok(Volume { content, ram: bytes, _claims: Vec::new() });
            }
            (Target::Ram { .. }, Some(_)) => return Err(VolumeError::NoBase),
            (Target::Disk { disk, part }, _) => (disk, *part),
        };
        let place = disks::find(disk, part).await?;
        let Some(overlay) = overlay else {
            let (claim, extent) = Claim::new(&place, user, mode)?;
            let content = Content::Extent(extent);
            return Ok(Volume { content, ram: 0, _claims: Vec::from([claim]) });
        };
        let (claim, base) = Claim::new(&place, user, Mode::ReadOnly)?;
        let (overlay, ram, claims) = match overlay {
            &Target::Ram { bytes } => {
                let overlay = Overlay::in_ram(base.sectors, Some(base), within_memory(bytes)?)?;
                (overlay, bytes, Vec::from([claim]))
            }
            Target::Disk { disk, part } => {
                let scratch = disks::find(disk, *part).await?;
                let (scratch_claim, scratch) = Claim::new(&scratch, user, Mode::ReadWrite)?;
                (Overlay::on_disk(base, scratch)?, 0, Vec::from([claim, scratch_claim]))
            }
        };
        Ok(Volume { content: Content::Overlay(Rc::new(overlay)), ram, _claims: claims })
    }

    /// Waits until its disks are done with what was begun before.
    async fn settled(&self) {
        match &self.content {
            Content::Extent(extent) => extent.settled().await,
            Content::Overlay(overlay) => overlay.settled().await,
        }
    }

    /// What it allows if it may be written, or not.
    pub(super) fn limits(&self, read_only: bool) -> Limits {
        match &self.content {
            Content::Extent(extent) => extent.limits(read_only),
            Content::Overlay(overlay) => overlay.limits(read_only),
        }
    }

    /// Whether a device reads or writes for it.
    pub(super) fn has_device(&self) -> bool {
        match &self.content {
            Content::Extent(_) => true,
            Content::Overlay(overlay) => overlay.has_device(),
        }
    }

    /// In units of how many sectors it discards best.
    pub(super) fn discard_unit(&self) -> u32 {
        match &self.content {
            Content::Extent(extent) => extent.discard_unit(),
            Content::Overlay(overlay) => overlay.discard_unit(),
        }
    }

    /// Begins what is to be done.
    pub(super) fn start(&self, work: Work) -> Progress {
        match &self.content {
            Content::Extent(extent) => {
                Progress::Pending(extent.clone().perform(work).boxed_local())
            }
            Content::Overlay(overlay) => overlay.start(work),
        }
    }
}

/// Forgets what a device holds that is nowhere else, given its backend's directory. To be called
/// when the device is gone.
pub fn forget(backend: &str) {
    KEPT.with(|kept| kept.borrow_mut().retain(|path, _| !backend.ends_with(path.as_str())));
}

/// All disks together may take half of dom0's memory: guests shall not leave it without.
fn within_memory(wanted: u64) -> Result<u64, VolumeError> {
    let taken: u64 = KEPT.with(|kept| kept.borrow().values().map(|volume| volume.ram).sum());
    let (_, heap) = memory::heap_usage();
    let free = (heap as u64 / 2).saturating_sub(taken);
    if wanted > free {
        return Err(VolumeError::Memory { wanted: wanted >> 10, free: free >> 10 });
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
