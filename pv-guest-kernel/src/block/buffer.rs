//! Memory for transfers: pages that are granted to the backend once and used again.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use abi::block::{MAX_SEGMENTS, SECTOR_SIZE, Segment};
use abi::{DomId, Errno, PAGE_SIZE};

use crate::grant::{Access, Grant};
use crate::shared::SharedPage;

/// The most bytes that one request can move.
pub const BUFFER_MAX: usize = MAX_SEGMENTS * PAGE_SIZE;

type FreePages = Rc<RefCell<Vec<Grant>>>;

/// Granted pages that are in no buffer now.
#[derive(Debug)]
pub(super) struct Pool {
    backend: DomId,
    free: FreePages,
}

impl Pool {
    pub(super) fn new(backend: DomId) -> Pool {
        Pool { backend, free: FreePages::default() }
    }

    pub(super) fn buffer(&self, length: usize) -> Result<Buffer, Errno> {
        if length == 0 || length > BUFFER_MAX || !length.is_multiple_of(SECTOR_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut buffer = Buffer { pages: Vec::new(), length, pool: self.free.clone() };
        for _ in 0..length.div_ceil(PAGE_SIZE) {
            buffer.pages.push(self.page()?);
        }
        Ok(buffer)
    }

    fn page(&self) -> Result<Grant, Errno> {
        match self.free.borrow_mut().pop() {
            Some(page) => Ok(page),
            None => Grant::new(&SharedPage::allocate()?, self.backend, Access::ReadWrite),
        }
    }
}

/// Memory that the disk's backend may read and write, so it is not a slice: data is copied in and
/// out.
#[derive(Debug)]
pub struct Buffer {
    pages: Vec<Grant>,
    length: usize,
    pool: FreePages,
}

impl Buffer {
    /// Its length in bytes: a whole number of sectors.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies the data out, as far as it fits.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        for (page, bytes) in self.pages.iter().zip(within(bytes, self.length).chunks_mut(PAGE_SIZE))
        {
            page.page().read_bytes(0, bytes);
        }
    }

    /// Copies data in, as far as it fits.
    pub fn copy_from(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..self.length).unwrap_or(bytes);
        for (page, bytes) in self.pages.iter().zip(bytes.chunks(PAGE_SIZE)) {
            page.page().write_bytes(0, bytes);
        }
    }

    /// What a request says of it: how many segments, and which.
    pub(super) fn segments(&self) -> (u8, [Segment; MAX_SEGMENTS]) {
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        let mut sectors = self.length / SECTOR_SIZE;
        for (segment, page) in segments.iter_mut().zip(&self.pages) {
            let in_page = sectors.min(PAGE_SIZE / SECTOR_SIZE);
            sectors -= in_page;
            // At most eight sectors lie in a page, and at least one in each of a buffer's.
            let last_sector = (in_page - 1) as u8;
            *segment = Segment { reference: page.reference(), last_sector, ..Default::default() };
        }
        (self.pages.len() as u8, segments)
    }
}

fn within(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(bytes.len());
    &mut bytes[..length]
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.borrow_mut().append(&mut self.pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_the_buffer_and_no_more() {
        let pool = Pool::new(DomId::DOM0);
        for sectors in 1..=BUFFER_MAX / SECTOR_SIZE {
            let buffer = pool.buffer(sectors * SECTOR_SIZE).unwrap();
            let (count, segments) = buffer.segments();
            let used = &segments[..count.into()];
            let covered: usize =
                used.iter().map(|segment| usize::from(segment.last_sector) + 1).sum();
            assert_eq!(covered, sectors);
            let (last, full) = used.split_last().unwrap();
            assert!(full.iter().all(|segment| segment.last_sector == 7));
            assert!(last.last_sector < 8);
        }
    }

    #[test]
    fn grants_are_used_again() {
        let pool = Pool::new(DomId::DOM0);
        let references = |buffer: &Buffer| -> Vec<_> {
            let (count, segments) = buffer.segments();
            segments[..count.into()].iter().map(|segment| segment.reference.0).collect()
        };
        let (first, second) = (pool.buffer(8192).unwrap(), pool.buffer(4096).unwrap());
        let mut before = [references(&first), references(&second)].concat();
        drop((first, second));
        let mut after = references(&pool.buffer(3 * PAGE_SIZE).unwrap());
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after);
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
