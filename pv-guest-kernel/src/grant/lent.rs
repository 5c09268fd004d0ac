//! Runs of granted pages in which bytes are written and read in place, without a copy in between.
//!
//! A reference to memory promises that nobody else writes it. That holds for pages which another
//! domain may only read ([`Outbox`]), and for pages which it may write, while their grants are
//! withdrawn ([`Inbox`]).

use alloc::vec;
use alloc::vec::Vec;

use abi::{DomId, Errno, GrantRef, PAGE_SIZE};

use super::{Access, Grant};
use crate::shared::SharedPage;

/// Pages, each granted by itself, that lie one after the other.
#[derive(Debug)]
struct Run(Vec<Grant>);

impl Run {
    fn new(domain: DomId, count: usize, access: Access) -> Result<Run, Errno> {
        let pages = SharedPage::allocate_run(count).map_err(|_| Errno::ENOMEM)?;
        let grants = pages.iter().map(|page| Grant::new(page, domain, access));
        Ok(Run(grants.collect::<Result<_, _>>()?))
    }

    fn reference(&self, page: usize) -> Option<GrantRef> {
        self.0.get(page).map(Grant::reference)
    }

    /// The bytes from `offset` of a page on, which may go on in the pages behind it.
    ///
    /// # Safety
    /// Nobody else writes them as long as the reference lives.
    unsafe fn bytes(&mut self, page: usize, offset: usize, length: usize) -> Option<&mut [u8]> {
        let first = self.0.get(page)?;
        let behind = (self.0.len() - page).checked_mul(PAGE_SIZE)?;
        if offset.checked_add(length)? > behind {
            return None;
        }
        let start = first.page().as_ptr();
        // SAFETY: the pages lie one after the other, and the bytes end before the last one does. They
        // belong to this run alone, which is borrowed: it gives them to nobody. That no other domain
        // writes them is the caller's promise.
        Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr().add(offset), length) })
    }
}

/// Pages that another domain may read.
#[derive(Debug)]
pub struct Outbox(Run);

impl Outbox {
    /// So many pages of zeroes.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory, `ENOSPC` if there is no room in the grant table.
    pub fn new(domain: DomId, count: usize) -> Result<Outbox, Errno> {
        Run::new(domain, count, Access::ReadOnly).map(Outbox)
    }

    /// What the other domain names a page by.
    pub fn reference(&self, page: usize) -> Option<GrantRef> {
        self.0.reference(page)
    }

    /// The bytes from the beginning of a page on; `None` if there are not so many. What is written
    /// may be seen at once.
    pub fn bytes(&mut self, page: usize, length: usize) -> Option<&mut [u8]> {
        // SAFETY: the other domain may only read.
        unsafe { self.0.bytes(page, 0, length) }
    }
}

/// Pages that another domain may write, but for those that were taken back.
#[derive(Debug)]
pub struct Inbox {
    run: Run,
    is_lent: Vec<bool>,
}

impl Inbox {
    /// So many pages of zeroes, all of them lent.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory, `ENOSPC` if there is no room in the grant table.
    pub fn new(domain: DomId, count: usize) -> Result<Inbox, Errno> {
        let run = Run::new(domain, count, Access::ReadWrite)?;
        Ok(Inbox { run, is_lent: vec![true; count] })
    }

    /// What the other domain names a page by.
    pub fn reference(&self, page: usize) -> Option<GrantRef> {
        self.run.reference(page)
    }

    /// Takes a page back, until it is lent again. Says whether it was lent and is not being used:
    /// else nothing has changed.
    pub fn take_back(&mut self, page: usize) -> bool {
        let (Some(grant), Some(is_lent)) = (self.run.0.get(page), self.is_lent.get_mut(page))
        else {
            return false;
        };
        let taken = *is_lent && grant.withdraw();
        *is_lent &= !taken;
        taken
    }

    /// Lends a page that was taken back; it keeps its reference.
    pub fn lend(&mut self, page: usize) {
        if let (Some(grant), Some(is_lent)) = (self.run.0.get(page), self.is_lent.get_mut(page))
            && !*is_lent
        {
            *is_lent = true;
            grant.renew(Access::ReadWrite);
        }
    }

    /// The bytes from `offset` of a page on; `None` if there are not so many, or if they touch a page
    /// that is lent.
    pub fn bytes(&mut self, page: usize, offset: usize, length: usize) -> Option<&mut [u8]> {
        let end = page.checked_add(offset.checked_add(length)?.div_ceil(PAGE_SIZE))?;
        if self.is_lent.get(page..end)?.contains(&true) {
            return None;
        }
        // SAFETY: no grant exists by which another domain could write one of these pages.
        unsafe { self.run.bytes(page, offset, length) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CopyBatch, End};
    use super::*;

    const OTHER: DomId = DomId(1);

    /// Writes a byte through a grant, as another domain would; says whether it could.
    fn write(reference: GrantRef, byte: u8) -> bool {
        let page = SharedPage::allocate().unwrap();
        page.write_bytes(0, &[byte]);
        let mut copies = CopyBatch::default();
        copies.push((End::Own(&page), 0), (End::Granted(OTHER, reference), 0), 1);
        copies.run().unwrap();
        copies.is_done(0)
    }

    #[test]
    fn bytes_go_on_from_page_to_page_and_not_beyond_the_last() {
        let mut outbox = Outbox::new(DomId::DOM0, 3).unwrap();
        assert_eq!(outbox.bytes(1, 2 * PAGE_SIZE).unwrap().len(), 2 * PAGE_SIZE);
        assert!(outbox.bytes(1, 2 * PAGE_SIZE + 1).is_none());
        assert!(outbox.bytes(3, 0).is_none() && outbox.bytes(0, usize::MAX).is_none());
        outbox.bytes(0, PAGE_SIZE + 1).unwrap().fill(7);
        assert_eq!(outbox.bytes(1, 2).unwrap(), [7, 0]);
        assert!(!write(outbox.reference(0).unwrap(), 1), "it may only be read");
    }

    #[test]
    fn a_page_is_either_lent_or_read() {
        let mut inbox = Inbox::new(DomId::DOM0, 2).unwrap();
        let reference = inbox.reference(1).unwrap();
        assert!(write(reference, 1));
        assert!(inbox.bytes(1, 0, 1).is_none());
        assert!(inbox.take_back(1) && !inbox.take_back(1));
        assert!(!write(reference, 2));
        assert_eq!(inbox.bytes(1, 0, 1).unwrap(), [1]);
        assert!(inbox.bytes(0, PAGE_SIZE - 1, 2).is_none(), "the page before is lent");
        assert!(inbox.bytes(1, PAGE_SIZE, 1).is_none());
        inbox.lend(1);
        assert!(write(reference, 3) && inbox.bytes(1, 0, 1).is_none());
        assert!(inbox.take_back(1));
        assert_eq!(inbox.bytes(1, 0, 1).unwrap(), [3]);
        inbox.lend(2);
        assert!(!inbox.take_back(2));
    }
}
