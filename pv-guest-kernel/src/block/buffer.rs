//! Memory for transfers: pages that are granted to the backend once and used again.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem::{offset_of, size_of};
use core::sync::atomic::Ordering;

use abi::block::{MAX_SEGMENTS, SECTOR_SIZE, SECTORS_PER_PAGE, SEGMENTS_PER_PAGE, Segment};
use abi::{DomId, Errno, GrantRef, PAGE_SIZE};

use crate::grant::{Access, Grant};
use crate::shared::SharedPage;

/// Pages of the largest buffer.
const PAGES_MAX: usize = 256;
const _: () = assert!(PAGES_MAX <= SEGMENTS_PER_PAGE);
/// Bytes of the largest buffer: a request that large needs a backend that takes indirect ones.
pub const BUFFER_MAX: usize = PAGES_MAX * PAGE_SIZE;

/// Granted pages, one after the other.
#[derive(Debug)]
struct Run {
    pages: Vec<Grant>,
    /// What a request of more than a few pages points to: a page that lists them.
    list: Option<Grant>,
    /// Bytes of it that are in use.
    length: usize,
}

// In boxes because buffers are moved a lot on their way.
type FreeRuns = Rc<RefCell<Vec<Box<Run>>>>;

/// Granted pages that are in no buffer now.
#[derive(Debug)]
pub(super) struct Pool {
    backend: DomId,
    free: FreeRuns,
}

impl Pool {
    pub(super) fn new(backend: DomId) -> Pool {
        Pool { backend, free: FreeRuns::default() }
    }

    pub(super) fn buffer(&self, length: usize) -> Result<Buffer, Errno> {
        if length == 0 || length > BUFFER_MAX || !length.is_multiple_of(SECTOR_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut run = self.run(length.div_ceil(PAGE_SIZE))?;
        run.length = length;
        run.write_list();
        Ok(Buffer { run: Some(run), pool: self.free.clone() })
    }

    /// A run of so many pages, one that was used before if there is one.
    fn run(&self, count: usize) -> Result<Box<Run>, Errno> {
        let mut free = self.free.borrow_mut();
        if let Some(index) = free.iter().rposition(|run| run.pages.len() == count) {
            return Ok(free.swap_remove(index));
        }
        let run = self.new_run(count);
        if run.is_err() && !free.is_empty() {
            // Those of other lengths keep memory and grants from this one.
            free.clear();
            return self.new_run(count);
        }
        run
    }

    fn new_run(&self, count: usize) -> Result<Box<Run>, Errno> {
        let grant = |page: &SharedPage| Grant::new(page, self.backend, Access::ReadWrite);
        let pages = SharedPage::allocate_run(count)?;
        let list = (count > MAX_SEGMENTS).then(SharedPage::allocate).transpose()?;
        Ok(Box::new(Run {
            pages: pages.iter().map(grant).collect::<Result<_, _>>()?,
            list: list.as_ref().map(grant).transpose()?,
            length: 0,
        }))
    }
}

/// Memory that the disk's backend may read and write, so it is not a slice: data is copied in and
/// out.
#[derive(Debug)]
pub struct Buffer {
    /// Until it goes back to the pool.
    run: Option<Box<Run>>,
    pool: FreeRuns,
}

impl Buffer {
    /// Its length in bytes: a whole number of sectors.
    pub fn length(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.length)
    }

    /// Copies the data out, as far as it fits.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        let length = self.length().min(bytes.len());
        let parts = bytes[..length].chunks_mut(PAGE_SIZE);
        self.pages().iter().zip(parts).for_each(|(page, bytes)| page.page().read_bytes(0, bytes));
    }

    /// Copies data in, as far as it fits.
    pub fn copy_from(&mut self, bytes: &[u8]) {
        let parts = bytes[..self.length().min(bytes.len())].chunks(PAGE_SIZE);
        self.pages().iter().zip(parts).for_each(|(page, bytes)| page.page().write_bytes(0, bytes));
    }

    /// How many segments a request has for it.
    pub(super) fn segment_count(&self) -> usize {
        self.pages().len()
    }

    /// The segments of a request that has them in itself.
    pub(super) fn segments(&self) -> [Segment; MAX_SEGMENTS] {
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        if let Some(run) = &self.run {
            let places = segments.iter_mut().zip(run.segments());
            places.for_each(|(place, segment)| *place = segment);
        }
        segments
    }

    /// The page that lists the segments, for one that has not. As long as requests use it nobody
    /// writes it: the backend reads it when it likes.
    pub(super) fn list(&self) -> Option<GrantRef> {
        self.run.as_ref()?.list.as_ref().map(Grant::reference)
    }

    fn pages(&self) -> &[Grant] {
        self.run.as_ref().map_or(&[], |run| &run.pages)
    }
}

impl Run {
    fn segments(&self) -> impl Iterator<Item = Segment> {
        let sectors = self.length / SECTOR_SIZE;
        let per_page = usize::from(SECTORS_PER_PAGE);
        self.pages.iter().enumerate().map(move |(index, page)| {
            // At most eight sectors lie in a page, and at least one in each of a buffer's.
            let last_sector = ((sectors - index * per_page).min(per_page) - 1) as u8;
            Segment { reference: page.reference(), last_sector, ..Default::default() }
        })
    }

    fn write_list(&self) {
        let Some(list) = &self.list else { return };
        for (index, segment) in self.segments().enumerate() {
            let place = index * size_of::<Segment>();
            let last_sector = place + offset_of!(Segment, last_sector);
            list.page().store_u32(place, segment.reference.0, Ordering::Relaxed);
            list.page().store_u8(last_sector, segment.last_sector, Ordering::Relaxed);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.borrow_mut().extend(self.run.take());
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    #[test]
    fn segments_cover_the_buffer_and_no_more() {
        let pool = Pool::new(DomId::DOM0);
        for sectors in (1..100).chain([2047, 2048]) {
            let buffer = pool.buffer(sectors * SECTOR_SIZE).unwrap();
            let segments: Vec<Segment> = buffer.run.as_ref().unwrap().segments().collect();
            assert_eq!(segments.len(), buffer.segment_count());
            let covered: usize =
                segments.iter().map(|segment| usize::from(segment.last_sector) + 1).sum();
            assert_eq!(covered, sectors);
            let (last, full) = segments.split_last().unwrap();
            assert!(full.iter().all(|segment| segment.last_sector == 7));
            assert!(last.last_sector < 8);
            assert_eq!(buffer.list().is_some(), segments.len() > MAX_SEGMENTS);
        }
    }

    #[test]
    fn a_list_says_what_the_segments_are() {
        let pool = Pool::new(DomId::DOM0);
        // The second is in the first one's run, and shorter.
        for sectors in [160, 157] {
            let buffer = pool.buffer(sectors * SECTOR_SIZE).unwrap();
            let list = buffer.run.as_ref().unwrap().list.as_ref().unwrap();
            for (index, expected) in buffer.run.as_ref().unwrap().segments().enumerate() {
                let mut bytes = [0; 8];
                list.page().read_bytes(index * 8, &mut bytes);
                let segment = Segment::read_from_bytes(&bytes).unwrap();
                assert_eq!(
                    (segment.reference, segment.first_sector, segment.last_sector),
                    (expected.reference, 0, expected.last_sector)
                );
            }
        }
        assert_eq!(pool.free.borrow().len(), 1);
    }

    #[test]
    fn grants_are_used_again() {
        let pool = Pool::new(DomId::DOM0);
        let references = |buffer: &Buffer| -> Vec<_> {
            buffer.run.as_ref().unwrap().segments().map(|segment| segment.reference.0).collect()
        };
        let (first, second) = (pool.buffer(8192).unwrap(), pool.buffer(4096).unwrap());
        let before = [references(&first), references(&second)];
        drop((first, second));
        let (first, second) = (pool.buffer(5000 / 512 * 512).unwrap(), pool.buffer(512).unwrap());
        assert_eq!([references(&first), references(&second)], before);
    }

    #[test]
    fn lengths_without_sense_are_refused() {
        let pool = Pool::new(DomId::DOM0);
        for length in [0, 511, 513, BUFFER_MAX + SECTOR_SIZE] {
            assert_eq!(pool.buffer(length).err(), Some(Errno::EINVAL));
        }
    }

    #[test]
    fn data_crosses_pages() {
        let pool = Pool::new(DomId::DOM0);
        let mut buffer = pool.buffer(2 * PAGE_SIZE).unwrap();
        let data: Vec<u8> = (0..2 * PAGE_SIZE).map(|index| (index % 251) as u8).collect();
        buffer.copy_from(&data);
        let mut copy = alloc::vec![0; 2 * PAGE_SIZE + 100];
        buffer.copy_to(&mut copy);
        assert_eq!(copy[..data.len()], data);
        assert_eq!(copy[data.len()..], [0; 100]);
    }
}
