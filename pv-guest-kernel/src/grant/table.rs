//! This domain's grant table (version 1): who may use which of our pages.
//!
//! A granted page is kept until the other domain has let go of it: a grant that is still in use
//! when dropped is revoked later, and its page and its entry are not used for anything else
//! before.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use abi::grant::{ENTRIES_PER_FRAME, Entry, EntryFlags, RESERVED_ENTRIES};
use abi::{DomId, Errno, GrantRef};

use crate::hypercall::grant_table;
use crate::local::StaysHome;
use crate::machine;
use crate::shared::SharedPage;

/// What the other domain may do with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

/// A page that another domain may use until this is dropped.
#[derive(Debug)]
pub struct Grant {
    reference: GrantRef,
    page: SharedPage,
    _stays_home: StaysHome,
}

impl Grant {
    /// Lets `domain` use `page`.
    ///
    /// # Errors
    /// `ENOSPC` if the table is full and cannot grow; `EOVERFLOW` for a page beyond 16 TiB.
    pub fn new(page: &SharedPage, domain: DomId, access: Access) -> Result<Grant, Errno> {
        let frame = machine::grantable_frame(page.gfn())?;
        let reference = with_table(|table| table.grant(frame, domain, access))?;
        Ok(Grant { reference, page: page.clone(), _stays_home: StaysHome::new() })
    }

    /// What the other domain names it by.
    pub fn reference(&self) -> GrantRef {
        self.reference
    }

    /// The page.
    pub fn page(&self) -> &SharedPage {
        &self.page
    }
}

impl Grant {
    /// Ends the grant for now. Says whether it is ended: it is not while the other domain uses the
    /// page.
    pub(super) fn withdraw(&self) -> bool {
        with_table(|table| table.revoke(self.reference))
    }

    /// Grants the page again after [`Grant::withdraw`], by the same reference.
    pub(super) fn renew(&self, access: Access) {
        with_table(|table| table.renew(self.reference, access));
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let revoked = with_table(|table| table.end(self.reference, self.page.clone()));
        if !revoked {
            log::debug!("grant {} is still in use; its page is kept", self.reference);
        }
    }
}

crate::vcpu_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::new());
}

fn with_table<R>(access: impl FnOnce(&mut Table) -> R) -> R {
    TABLE.with(|table| access(&mut table.borrow_mut()))
}

#[derive(Debug)]
struct Table {
    frames: Vec<SharedPage>,
    free: Vec<GrantRef>,
    /// Ended by us, but not yet by the other domain.
    lingering: Vec<(GrantRef, SharedPage)>,
    /// It has been said that the table is full: drivers try again and again.
    has_said_full: bool,
}

impl Table {
    const fn new() -> Table {
        Table { frames: Vec::new(), free: Vec::new(), lingering: Vec::new(), has_said_full: false }
    }

    fn grant(&mut self, frame: u32, domain: DomId, access: Access) -> Result<GrantRef, Errno> {
        let reference = self.allocate()?;
        let (page, entry) = self.entry(reference).ok_or(Errno::ENOENT)?;
        page.store_u32(entry + offset_of!(Entry, frame), frame, Ordering::Relaxed);
        page.store_u16(entry + offset_of!(Entry, domid), domain.0, Ordering::Relaxed);
        self.renew(reference, access);
        Ok(reference)
    }

    /// Makes an entry valid whose other fields are right.
    fn renew(&self, reference: GrantRef, access: Access) {
        let flags = match access {
            Access::ReadOnly => EntryFlags::PERMIT_ACCESS | EntryFlags::READONLY,
            Access::ReadWrite => EntryFlags::PERMIT_ACCESS,
        };
        if let Some((page, entry)) = self.entry(reference) {
            page.store_u16(entry + offset_of!(Entry, flags), flags.bits(), Ordering::Release);
        }
    }

    /// Revokes a grant, or keeps it for later. Says whether it is revoked.
    fn end(&mut self, reference: GrantRef, page: SharedPage) -> bool {
        self.revoke_lingering();
        if self.revoke(reference) {
            self.free.push(reference);
            return true;
        }
        self.lingering.push((reference, page));
        false
    }

    fn revoke_lingering(&mut self) {
        for (reference, page) in core::mem::take(&mut self.lingering) {
            if self.revoke(reference) {
                self.free.push(reference);
            } else {
                self.lingering.push((reference, page));
            }
        }
    }

    /// Makes the entry invalid, unless it is in use.
    fn revoke(&self, reference: GrantRef) -> bool {
        let Some((page, entry)) = self.entry(reference) else { return false };
        let place = entry + offset_of!(Entry, flags);
        let in_use = (EntryFlags::READING | EntryFlags::WRITING).bits();
        let mut flags = page.load_u16(place, Ordering::Relaxed);
        while flags & in_use == 0 {
            match page.compare_exchange_u16(place, flags, 0) {
                Ok(_) => return true,
                Err(changed) => flags = changed,
            }
        }
        false
    }

    /// The frame that holds an entry, and the entry's offset in it.
    fn entry(&self, reference: GrantRef) -> Option<(&SharedPage, usize)> {
        let page = self.frames.get((reference.0 / ENTRIES_PER_FRAME) as usize)?;
        Some((page, (reference.0 % ENTRIES_PER_FRAME) as usize * size_of::<Entry>()))
    }

    fn allocate(&mut self) -> Result<GrantRef, Errno> {
        if self.free.is_empty() {
            self.revoke_lingering();
        }
        if self.free.is_empty() {
            self.grow()?;
        }
        self.free.pop().ok_or(Errno::ENOSPC)
    }

    /// Adds one frame.
    fn grow(&mut self) -> Result<(), Errno> {
        let size = grant_table::query_size()?;
        let index = u32::try_from(self.frames.len()).map_err(|_| Errno::ENOSPC)?;
        if index >= size.max_nr_frames {
            if !core::mem::replace(&mut self.has_said_full, true) {
                log::error!(
                    "this domain has used up its {index} frames of grants; max_grant_frames in its \
                     domain file says how many it may have"
                );
            }
            return Err(Errno::ENOSPC);
        }
        if index >= size.nr_frames {
            grant_table::setup_table(&mut vec![0; self.frames.len() + 1])?;
        }
        self.frames.push(machine::grant_frame(index)?);
        let first = index * ENTRIES_PER_FRAME;
        // The toolstack has the first entries for the console and the store.
        let usable = first.max(RESERVED_ENTRIES)..first + ENTRIES_PER_FRAME;
        self.free.extend(usable.rev().map(GrantRef));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn flags_of(reference: GrantRef) -> EntryFlags {
        with_table(|table| {
            let (page, entry) = table.entry(reference).unwrap();
            EntryFlags::from_bits_retain(page.load_u16(entry, Ordering::Relaxed))
        })
    }

    fn set_flags(reference: GrantRef, flags: EntryFlags) {
        with_table(|table| {
            let (page, entry) = table.entry(reference).unwrap();
            page.store_u16(entry, flags.bits(), Ordering::Relaxed);
        });
    }

    #[test]
    fn an_entry_says_what_was_granted_and_nothing_afterwards() {
        let page = SharedPage::allocate().unwrap();
        let grant = Grant::new(&page, DomId(3), Access::ReadOnly).unwrap();
        let reference = grant.reference();
        let (frame, domain) = with_table(|table| {
            let (page, entry) = table.entry(reference).unwrap();
            (
                page.load_u32(entry + 4, Ordering::Relaxed),
                page.load_u16(entry + 2, Ordering::Relaxed),
            )
        });
        assert_eq!((frame, domain), (machine::grantable_frame(page.gfn()).unwrap(), 3));
        assert_eq!(flags_of(reference), EntryFlags::PERMIT_ACCESS | EntryFlags::READONLY);
        drop(grant);
        assert_eq!(flags_of(reference), EntryFlags::empty());
    }

    #[test]
    fn references_are_unique_beyond_one_frame_and_spare_the_toolstack() {
        let page = SharedPage::allocate().unwrap();
        let grants: Vec<Grant> =
            (0..600).map(|_| Grant::new(&page, DomId(1), Access::ReadWrite).unwrap()).collect();
        let references: BTreeSet<GrantRef> = grants.iter().map(Grant::reference).collect();
        assert_eq!(references.len(), 600);
        assert!(references.iter().all(|reference| reference.0 >= RESERVED_ENTRIES));
    }

    #[test]
    fn a_full_table_is_an_error() {
        let page = SharedPage::allocate().unwrap();
        let mut grants = Vec::new();
        let error = loop {
            match Grant::new(&page, DomId(1), Access::ReadWrite) {
                Ok(grant) => grants.push(grant),
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::ENOSPC);
        grants.pop();
        assert!(Grant::new(&page, DomId(1), Access::ReadWrite).is_ok());
    }

    #[test]
    fn a_page_in_use_is_kept_until_it_is_not() {
        let page = SharedPage::allocate().unwrap();
        let grant = Grant::new(&page, DomId(1), Access::ReadWrite).unwrap();
        let reference = grant.reference();
        set_flags(reference, EntryFlags::PERMIT_ACCESS | EntryFlags::WRITING);
        drop((grant, page));
        assert_eq!(with_table(|table| table.lingering.len()), 1);
        set_flags(reference, EntryFlags::PERMIT_ACCESS);
        let other = Grant::new(&SharedPage::allocate().unwrap(), DomId(1), Access::ReadWrite);
        assert_ne!(other.unwrap().reference(), reference);
        assert_eq!(with_table(|table| table.lingering.len()), 0);
        assert_eq!(flags_of(reference), EntryFlags::empty());
    }
}
