//! The guest's memory that a request names.
//!
//! A device must be told where it is: it is mapped. A guest that offers persistent grants uses the same
//! few pages again and again: they are mapped when they are first seen, and stay mapped as long as
//! the connection lasts. Those of other guests are mapped for one request. What only goes to dom0's
//! memory and back the monitor copies, and nothing is mapped.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::block::{SECTOR_SIZE, SECTORS_PER_PAGE, Segment};
use abi::{DomId, GrantRef};
use pv_guest_kernel::grant::{Access, CopyBatch, End, GrantError, Mapping};
use pv_guest_kernel::memory::OutOfMemory;
use pv_guest_kernel::shared::SharedPage;
use thiserror::Error;

use super::request::Direction;
use super::table::Table;
use crate::virtio::Span;

/// Pages that stay mapped for one disk of a guest at most: 8 MiB, and what lists them. Further ones
/// are mapped each time.
const KEPT_MAX: usize = if cfg!(test) { 64 } else { 2048 + 256 };
/// Above it no grant reference is remembered: 64 frames of a grant table.
const REFERENCE_LIMIT: usize = 64 * 512;

/// Why a request's memory cannot be used. The guest is to blame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum MemoryError {
    #[error("a segment from sector {0} to {1} of its page")]
    Segment(u8, u8),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("grant {} cannot be read", .0.0)]
    Unreadable(GrantRef),
}

/// How a guest's pages are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By the monitor's copies.
    Copied,
    /// Mapped for each request.
    Mapped,
    /// Mapped once.
    Persistent,
}

/// The grants of one disk's frontend.
#[derive(Debug)]
pub(super) struct Grants {
    granter: DomId,
    reach: Reach,
    kept: RefCell<Kept>,
    /// Where what is copied out goes through.
    scratch: SharedPage,
}

#[derive(Debug)]
struct Kept {
    /// By grant reference: the page's number, plus one.
    numbers: Table<u16>,
    pages: Vec<GrantedPage>,
}

/// A page that is mapped as long as this lives.
#[derive(Debug, Clone)]
pub(super) struct GrantedPage {
    pub(super) page: SharedPage,
    /// Where a device finds it.
    pub(super) bus_address: u64,
}

/// A guest's page, as it can be reached.
#[derive(Debug, Clone, Copy)]
pub(super) enum GuestPage<'a> {
    Mapped(&'a GrantedPage),
    /// By the monitor only.
    Granted(DomId, GrantRef),
}

/// A page of a request.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Not mapped.
    Granted(GrantRef),
    /// By its number among those that stay mapped.
    Kept(u16),
    /// By its number among the request's own.
    Own(u16),
}

/// Part of a page, in bytes; it ends in the same page.
#[derive(Debug, Clone, Copy)]
struct Part {
    place: Place,
    offset: u16,
    length: u16,
}

/// The memory of one request, in order; what is mapped of it stays so as long as this lives.
#[derive(Debug)]
pub(super) struct Memory {
    grants: Rc<Grants>,
    own: Vec<GrantedPage>,
    parts: Vec<Part>,
    bytes: usize,
}

impl Grants {
    pub(super) fn new(granter: DomId, reach: Reach) -> Result<Rc<Grants>, OutOfMemory> {
        let kept = Kept { numbers: Table::new(REFERENCE_LIMIT), pages: Vec::new() };
        let (kept, scratch) = (RefCell::new(kept), SharedPage::allocate()?);
        Ok(Rc::new(Grants { granter, reach, kept, scratch }))
    }

    /// The memory that segments name, for data that moves this way.
    pub(super) fn memory(
        self: &Rc<Self>,
        segments: &[Segment],
        direction: Direction,
    ) -> Result<Memory, MemoryError> {
        let mut memory = Memory {
            grants: self.clone(),
            own: Vec::new(),
            parts: Vec::with_capacity(segments.len()),
            bytes: 0,
        };
        let mut missing = Vec::new();
        let kept = self.kept.borrow();
        for segment in segments {
            let (offset, length) = bytes_of(segment)?;
            let place = match (self.reach, kept.find(segment.reference)) {
                (Reach::Copied, _) => Place::Granted(segment.reference),
                (_, Some(number)) => Place::Kept(number),
                (_, None) => {
                    missing.push(segment.reference);
                    Place::Own((missing.len() - 1) as u16)
                }
            };
            memory.bytes += usize::from(length);
            memory.parts.push(Part { place, offset, length });
        }
        drop(kept);
        if !missing.is_empty() {
            memory.own = self.map(&missing, direction)?;
        }
        Ok(memory)
    }

    /// Maps grants, and keeps those that the guest will use again.
    #[inline(never)]
    fn map(
        &self,
        references: &[GrantRef],
        direction: Direction,
    ) -> Result<Vec<GrantedPage>, GrantError> {
        // A page that stays serves both directions.
        let access = match direction {
            Direction::ToDisk if self.reach != Reach::Persistent => Access::ReadOnly,
            _ => Access::ReadWrite,
        };
        let mapping = Mapping::new(self.granter, references, access)?;
        let page = |index| GrantedPage {
            page: mapping.page(index),
            bus_address: mapping.bus_address(index),
        };
        let pages: Vec<GrantedPage> = (0..references.len()).map(page).collect();
        if self.reach == Reach::Persistent {
            let mut kept = self.kept.borrow_mut();
            references.iter().zip(&pages).for_each(|(reference, page)| kept.keep(*reference, page));
        }
        Ok(pages)
    }

    /// Copies so many bytes from a page's beginning, once.
    pub(super) fn copy_out(
        self: &Rc<Self>,
        reference: GrantRef,
        bytes: &mut [u8],
    ) -> Result<(), MemoryError> {
        if self.reach == Reach::Copied {
            return self.copy_by_monitor(reference, bytes);
        }
        let whole = Segment { reference, last_sector: SECTORS_PER_PAGE - 1, ..Default::default() };
        let memory = self.memory(&[whole], Direction::ToDisk)?;
        memory.each(|page, offset, _| {
            if let GuestPage::Mapped(page) = page {
                page.page.read_bytes(offset, bytes);
            }
        });
        Ok(())
    }

    fn copy_by_monitor(&self, reference: GrantRef, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let mut copy = CopyBatch::default();
        let (theirs, ours) = (End::Granted(self.granter, reference), End::Own(&self.scratch));
        let number = copy.push((theirs, 0), (ours, 0), bytes.len());
        if copy.run().is_err() || !copy.is_done(number) {
            return Err(MemoryError::Unreadable(reference));
        }
        self.scratch.read_bytes(0, bytes);
        Ok(())
    }
}

impl Kept {
    fn find(&self, reference: GrantRef) -> Option<u16> {
        self.numbers.get(reference.0 as usize)?.checked_sub(1)
    }

    fn keep(&mut self, reference: GrantRef, page: &GrantedPage) {
        if self.pages.len() >= KEPT_MAX {
            return;
        }
        if let Some(entry) = self.numbers.entry(reference.0 as usize) {
            self.pages.push(page.clone());
            *entry = self.pages.len() as u16;
        }
    }
}

impl Memory {
    /// Parts of pages that this program has itself.
    #[cfg(test)]
    pub(super) fn of(grants: Rc<Grants>, parts: Vec<(SharedPage, usize, usize)>) -> Memory {
        let bytes = parts.iter().map(|(.., length)| length).sum();
        let mut memory = Memory { grants, own: Vec::new(), parts: Vec::new(), bytes };
        for (page, offset, length) in parts {
            let place = Place::Own(memory.own.len() as u16);
            memory.parts.push(Part { place, offset: offset as u16, length: length as u16 });
            memory.own.push(GrantedPage { bus_address: crate::virtio::bus_address(&page), page });
        }
        memory
    }

    /// How much there is: a whole number of sectors.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where a device finds it; what lies together is one span. `None` if some is not mapped.
    pub(super) fn spans(&self) -> Option<Vec<Span>> {
        let mut spans = Some(Vec::new());
        self.each(|page, offset, length| match (page, &mut spans) {
            (GuestPage::Mapped(page), Some(spans)) => {
                let address = page.bus_address + offset as u64;
                Span::append(spans, Span { address, length: length as u32 });
            }
            _ => spans = None,
        });
        spans
    }

    /// Visits its parts in order: page, offset and length, in bytes.
    pub(super) fn each(&self, mut visit: impl FnMut(GuestPage<'_>, usize, usize)) {
        let kept = self.grants.kept.borrow();
        for part in &self.parts {
            let page = match part.place {
                Place::Kept(number) => kept.pages.get(usize::from(number)).map(GuestPage::Mapped),
                Place::Own(number) => self.own.get(usize::from(number)).map(GuestPage::Mapped),
                Place::Granted(reference) => {
                    Some(GuestPage::Granted(self.grants.granter, reference))
                }
            };
            if let Some(page) = page {
                visit(page, part.offset.into(), part.length.into());
            }
        }
    }
}

/// A segment's place in its page.
fn bytes_of(segment: &Segment) -> Result<(u16, u16), MemoryError> {
    let Segment { first_sector: first, last_sector: last, .. } = *segment;
    if first > last || last >= SECTORS_PER_PAGE {
        return Err(MemoryError::Segment(first, last));
    }
    let sector_size = SECTOR_SIZE as u16;
    Ok((u16::from(first) * sector_size, u16::from(last - first + 1) * sector_size))
}

#[cfg(test)]
mod tests {
    use pv_guest_kernel::grant::Grant;

    use super::*;

    fn segment(grant: &Grant, first_sector: u8, last_sector: u8) -> Segment {
        Segment { reference: grant.reference(), first_sector, last_sector, padding: 0 }
    }

    fn grant() -> Grant {
        Grant::new(&SharedPage::allocate().unwrap(), DomId::DOM0, Access::ReadWrite).unwrap()
    }

    #[test]
    fn segments_become_parts_of_pages() {
        let (one, two) = (grant(), grant());
        let grants = Grants::new(DomId(1), Reach::Mapped).unwrap();
        let segments = [segment(&one, 0, 7), segment(&two, 2, 2)];
        let memory = grants.memory(&segments, Direction::FromDisk).unwrap();
        assert_eq!(memory.bytes(), 4096 + 512);
        let mut parts = Vec::new();
        memory.each(|_, offset, length| parts.push((offset, length)));
        assert_eq!(parts, [(0, 4096), (1024, 512)]);
    }

    #[test]
    fn segments_without_sense_are_refused() {
        let (one, grants) = (grant(), Grants::new(DomId(1), Reach::Mapped).unwrap());
        for (first, last) in [(3, 2), (0, 8), (255, 255)] {
            let error = grants.memory(&[segment(&one, first, last)], Direction::ToDisk).err();
            assert_eq!(error, Some(MemoryError::Segment(first, last)));
        }
        let nothing = Segment { reference: GrantRef(9999), ..Default::default() };
        let error = grants.memory(&[nothing], Direction::ToDisk).err();
        assert!(matches!(error, Some(MemoryError::Grant(_))));
    }

    #[test]
    fn only_persistent_grants_stay_mapped_and_not_without_bound() {
        let pages: Vec<Grant> = (0..KEPT_MAX + 10).map(|_| grant()).collect();
        for (reach, most) in [(Reach::Mapped, 0), (Reach::Persistent, KEPT_MAX)] {
            let grants = Grants::new(DomId(1), reach).unwrap();
            for _ in 0..2 {
                for page in &pages {
                    drop(grants.memory(&[segment(page, 0, 7)], Direction::ToDisk).unwrap());
                }
            }
            let kept = grants.kept.borrow().pages.len();
            assert_eq!(kept, most);
        }
    }

    #[test]
    fn what_the_monitor_copies_has_no_place_for_a_device() {
        let (one, grants) = (grant(), Grants::new(DomId(1), Reach::Copied).unwrap());
        let memory = grants.memory(&[segment(&one, 0, 7)], Direction::FromDisk).unwrap();
        assert_eq!(memory.spans(), None);
    }

    #[test]
    fn a_page_is_copied_out_however_it_is_reached() {
        let page = SharedPage::allocate().unwrap();
        page.write_bytes(0, b"segments");
        let grant = Grant::new(&page, DomId::DOM0, Access::ReadOnly).unwrap();
        for reach in [Reach::Copied, Reach::Mapped] {
            let grants = Grants::new(DomId(1), reach).unwrap();
            let mut bytes = [0; 8];
            grants.copy_out(grant.reference(), &mut bytes).unwrap();
            assert_eq!(&bytes, b"segments");
            assert!(grants.copy_out(GrantRef(9999), &mut bytes).is_err());
        }
    }
}
