//! Copies between granted pages and one's own, many in one hypercall. Nothing is mapped.

use alloc::vec::Vec;

use abi::grant::{Copy, CopyEnd, CopyFlags, Status};
use abi::{DomId, Errno, GrantRef};

use crate::hypercall::grant_table;
use crate::shared::SharedPage;

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// A page of this domain.
    Own(&'a SharedPage),
    /// A page that another domain has granted.
    Granted(DomId, GrantRef),
}

/// Copies that are made together.
#[derive(Debug, Default)]
pub struct CopyBatch {
    elements: Vec<Copy>,
    /// This domain's pages in it, which must stay until it has run.
    pages: Vec<SharedPage>,
}

impl CopyBatch {
    /// Adds a copy of `length` bytes between these offsets of two pages and returns its number. It
    /// must stay within the pages, or it will fail.
    pub fn push(
        &mut self,
        source: (End<'_>, usize),
        destination: (End<'_>, usize),
        length: usize,
    ) -> usize {
        let mut flags = CopyFlags::empty();
        flags.set(CopyFlags::SOURCE_GREF, matches!(source.0, End::Granted(..)));
        flags.set(CopyFlags::DEST_GREF, matches!(destination.0, End::Granted(..)));
        let element = Copy {
            source: self.end(source),
            dest: self.end(destination),
            len: saturated(length),
            flags: flags.bits(),
            // Stays if the monitor stops before this element.
            status: Status::GeneralError.raw(),
            padding: 0,
        };
        self.elements.push(element);
        self.elements.len() - 1
    }

    fn end(&mut self, (end, offset): (End<'_>, usize)) -> CopyEnd {
        let (frame, domid) = match end {
            End::Own(page) => {
                self.pages.push(page.clone());
                (page.gfn().0, DomId::SELF)
            }
            End::Granted(domain, reference) => (reference.0.into(), domain),
        };
        CopyEnd { frame, domid, offset: saturated(offset), padding: 0 }
    }

    /// How many copies there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Makes them all. Each has a result of its own then.
    ///
    /// # Errors
    /// If the call as a whole failed.
    pub fn run(&mut self) -> Result<(), Errno> {
        // SAFETY: this domain's pages are shared ones, which may change at any time, and are kept
        // until the call is over.
        let result = unsafe { grant_table::copy(&mut self.elements) };
        self.pages.clear();
        result
    }

    /// Whether a copy was made; `None` for a number that is not in the batch.
    pub fn is_done(&self, number: usize) -> bool {
        self.elements.get(number).is_some_and(|copy| copy.status == Status::Okay.raw())
    }

    /// Whether what a copy was to take can be read, which is tried by another copy, to `scratch`. To
    /// find out who is to blame for one that was not made.
    pub fn can_read(&self, number: usize, scratch: &SharedPage) -> bool {
        let Some(copy) = self.elements.get(number) else { return false };
        if copy.flags & CopyFlags::SOURCE_GREF.bits() == 0 {
            return true;
        }
        let source = End::Granted(copy.source.domid, GrantRef(copy.source.frame as u32));
        let mut again = CopyBatch::default();
        again.push((source, copy.source.offset.into()), (End::Own(scratch), 0), copy.len.into());
        again.run().is_ok() && again.is_done(0)
    }

    /// Forgets all copies.
    pub fn clear(&mut self) {
        self.elements.clear();
        self.pages.clear();
    }
}

/// What does not fit leaves the page either way, and the monitor refuses it.
fn saturated(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{Access, Grant};

    #[test]
    fn bytes_go_between_grants_and_pages() {
        let (theirs, ours) = (SharedPage::allocate().unwrap(), SharedPage::allocate().unwrap());
        theirs.write_bytes(100, b"granted");
        let grant = Grant::new(&theirs, DomId::DOM0, Access::ReadWrite).unwrap();
        let granted = End::Granted(DomId(1), grant.reference());
        let mut batch = CopyBatch::default();
        let first = batch.push((granted, 100), (End::Own(&ours), 8), 7);
        let second = batch.push((End::Own(&ours), 8), (granted, 2000), 7);
        let beyond = batch.push((granted, 4090), (End::Own(&ours), 0), 7);
        let nothing = batch.push((End::Granted(DomId(1), GrantRef(9999)), 0), (granted, 0), 1);
        batch.run().unwrap();
        let done = [first, second, beyond, nothing, 4].map(|number| batch.is_done(number));
        assert_eq!(done, [true, true, false, false, false]);
        let mut bytes = [0; 7];
        theirs.read_bytes(2000, &mut bytes);
        assert_eq!(&bytes, b"granted");
    }

    #[test]
    fn a_page_granted_for_reading_is_not_written() {
        let (theirs, ours) = (SharedPage::allocate().unwrap(), SharedPage::allocate().unwrap());
        let grant = Grant::new(&theirs, DomId::DOM0, Access::ReadOnly).unwrap();
        let granted = End::Granted(DomId(1), grant.reference());
        let mut batch = CopyBatch::default();
        let reading = batch.push((granted, 0), (End::Own(&ours), 0), 1);
        let writing = batch.push((End::Own(&ours), 0), (granted, 0), 1);
        batch.run().unwrap();
        assert!(batch.is_done(reading) && !batch.is_done(writing));
        let unknown = batch.push((End::Granted(DomId(1), GrantRef(9999)), 0), (granted, 0), 1);
        let readable = [reading, writing, unknown, 3].map(|copy| batch.can_read(copy, &ours));
        assert_eq!(readable, [true, true, false, false]);
    }
}
