//! A domain's grant table, and who has mapped what.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use abi::grant::{ENTRIES_PER_FRAME, Entry, EntryFlags, Status};
use abi::{DomId, Errno, Gfn, GrantRef};

use crate::shared::SharedPage;

/// A domain's grant table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) frames: Vec<SharedPage>,
    /// Frames that the domain has asked for, beside the first.
    pub(super) more: u32,
    /// What its entries' frame numbers stand for.
    pub(super) grantable: Vec<Gfn>,
}

/// A grant that somebody has mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapped {
    pub(super) holder: DomId,
    pub(super) granter: DomId,
    pub(super) reference: GrantRef,
    pub(super) write: bool,
}

impl Table {
    pub(super) fn grantable(&mut self, gfn: Gfn) -> Result<u32, Errno> {
        let known = self.grantable.iter().position(|&frame| frame == gfn);
        let index = known.unwrap_or_else(|| {
            self.grantable.push(gfn);
            self.grantable.len() - 1
        });
        u32::try_from(index).map_err(|_| Errno::EOVERFLOW)
    }

    /// The frame that holds an entry, and the entry's offset in it.
    pub(super) fn entry(&self, reference: GrantRef) -> Option<(&SharedPage, usize)> {
        let page = self.frames.get((reference.0 / ENTRIES_PER_FRAME) as usize)?;
        Some((page, (reference.0 % ENTRIES_PER_FRAME) as usize * size_of::<Entry>()))
    }

    pub(super) fn flags(page: &SharedPage, entry: usize) -> EntryFlags {
        let flags = page.load_u16(entry + offset_of!(Entry, flags), Ordering::Acquire);
        EntryFlags::from_bits_retain(flags)
    }

    /// How many entries are valid.
    pub(super) fn valid(&self) -> usize {
        let entries = (0..self.frames.len() as u32 * ENTRIES_PER_FRAME).map(GrantRef);
        let is_valid = |&reference: &GrantRef| {
            let entry = self.entry(reference);
            entry.is_some_and(|(page, entry)| !Table::flags(page, entry).is_empty())
        };
        entries.filter(is_valid).count()
    }

    /// Says in an entry how it is in use, as long as the granter has not revoked it.
    pub(super) fn mark(
        &self,
        reference: GrantRef,
        reading: bool,
        writing: bool,
    ) -> Result<(), Status> {
        let (page, entry) = self.entry(reference).ok_or(Status::BadGrantRef)?;
        loop {
            let old = Table::flags(page, entry);
            if !old.contains(EntryFlags::PERMIT_ACCESS) {
                return Err(Status::BadGrantRef);
            }
            let mut new = old;
            new.set(EntryFlags::READING, reading);
            new.set(EntryFlags::WRITING, writing);
            let place = entry + offset_of!(Entry, flags);
            if page.compare_exchange_u16(place, old.bits(), new.bits()).is_ok() {
                return Ok(());
            }
        }
    }
}
