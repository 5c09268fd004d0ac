//! What a guest may ask of its disk. A request is the guest's claim: here it is checked, once,
//! on a copy that the guest can no longer change.

use abi::GrantRef;
use abi::PAGE_SIZE;
use abi::block::{MAX_SEGMENTS, Operation, Request, SECTOR_SIZE, Segment};
use thiserror::Error;

/// Sectors in a page.
const SECTORS_PER_PAGE: u8 = (PAGE_SIZE / SECTOR_SIZE) as u8;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// This backend does not do that.
    #[error("operation {0} is not supported")]
    NotSupported(u8),
    #[error("{0} segments, where there may be 1 to {MAX_SEGMENTS}")]
    SegmentCount(u8),
    #[error("a segment from sector {0} to {1} of its page")]
    Segment(u8, u8),
    #[error("{count} sectors from {sector} on leave the disk")]
    BeyondEnd { sector: u64, count: u64 },
    #[error("the disk is read-only")]
    ReadOnly,
}

/// What a guest's view of a disk allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Size in units of 512 bytes.
    pub(super) sectors: u64,
    pub(super) read_only: bool,
    pub(super) flush: bool,
}

/// Which way data moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FromDisk,
    ToDisk,
}

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    Transfer { direction: Direction, sector: u64, pieces: heapless::Vec<Piece, MAX_SEGMENTS> },
    Flush,
}

/// Part of one of the guest's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) reference: GrantRef,
    /// Where it begins in the page, in bytes.
    pub(super) offset: u32,
    /// In bytes; it ends in the same page.
    pub(super) length: u32,
}

/// Checks a request.
pub(super) fn check(request: &Request, limits: &Limits) -> Result<Job, Refusal> {
    let direction = match Operation::from_raw(request.operation) {
        Some(Operation::Read) => Direction::FromDisk,
        Some(Operation::Write) if limits.read_only => return Err(Refusal::ReadOnly),
        Some(Operation::Write) => Direction::ToDisk,
        Some(Operation::Flush) if limits.flush => return flush(request),
        _ => return Err(Refusal::NotSupported(request.operation)),
    };
    let segments = match request.segment.get(..request.segments.into()) {
        None | Some([]) => return Err(Refusal::SegmentCount(request.segments)),
        Some(segments) => segments,
    };
    let pieces = segments.iter().map(piece).collect::<Result<heapless::Vec<_, _>, _>>()?;
    let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.length)).sum();
    let (sector, count) = (request.sector, bytes / SECTOR_SIZE as u64);
    if sector.checked_add(count).is_none_or(|end| end > limits.sectors) {
        return Err(Refusal::BeyondEnd { sector, count });
    }
    Ok(Job::Transfer { direction, sector, pieces })
}

/// A flush moves no data here; nothing in the protocol says what its segments would mean.
fn flush(request: &Request) -> Result<Job, Refusal> {
    if request.segments == 0 {
        Ok(Job::Flush)
    } else {
        Err(Refusal::SegmentCount(request.segments))
    }
}

fn piece(segment: &Segment) -> Result<Piece, Refusal> {
    let Segment { reference, first_sector: first, last_sector: last, .. } = *segment;
    if first > last || last >= SECTORS_PER_PAGE {
        return Err(Refusal::Segment(first, last));
    }
    let sector_size = SECTOR_SIZE as u32;
    Ok(Piece {
        reference,
        offset: u32::from(first) * sector_size,
        length: u32::from(last - first + 1) * sector_size,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { sectors: 1000, read_only: false, flush: true };

    fn request(operation: Operation, sector: u64, segments: &[(u8, u8)]) -> Request {
        let mut request = Request {
            operation: operation.raw(),
            segments: segments.len() as u8,
            sector,
            ..Default::default()
        };
        for (place, &(first_sector, last_sector)) in request.segment.iter_mut().zip(segments) {
            *place = Segment { first_sector, last_sector, ..Default::default() };
        }
        request
    }

    #[test]
    fn segments_become_parts_of_pages() {
        let job = check(&request(Operation::Read, 5, &[(0, 7), (2, 2)]), &LIMITS);
        let reference = GrantRef(0);
        let pieces = [
            Piece { reference, offset: 0, length: 4096 },
            Piece { reference, offset: 1024, length: 512 },
        ];
        let pieces = pieces.into_iter().collect();
        let expected = Job::Transfer { direction: Direction::FromDisk, sector: 5, pieces };
        assert_eq!(job, Ok(expected));
    }

    #[test]
    fn the_last_sector_is_on_the_disk_and_the_next_is_not() {
        assert!(check(&request(Operation::Write, 992, &[(0, 7)]), &LIMITS).is_ok());
        let beyond = Refusal::BeyondEnd { sector: 993, count: 8 };
        assert_eq!(check(&request(Operation::Write, 993, &[(0, 7)]), &LIMITS), Err(beyond));
        assert!(check(&request(Operation::Read, u64::MAX, &[(0, 0)]), &LIMITS).is_err());
    }

    #[test]
    fn each_mistake_is_named() {
        let refusal = |request: &Request, limits: &Limits| check(request, limits).unwrap_err();
        let write = request(Operation::Write, 0, &[(0, 0)]);
        let read_only = Limits { read_only: true, ..LIMITS };
        assert_eq!(refusal(&write, &read_only), Refusal::ReadOnly);
        assert_eq!(refusal(&request(Operation::Read, 0, &[]), &LIMITS), Refusal::SegmentCount(0));
        let too_many = Request { segments: 12, ..write };
        assert_eq!(refusal(&too_many, &LIMITS), Refusal::SegmentCount(12));
        for (first, last) in [(3, 2), (0, 8), (255, 255)] {
            let bad = request(Operation::Read, 0, &[(0, 0), (first, last)]);
            assert_eq!(refusal(&bad, &LIMITS), Refusal::Segment(first, last));
        }
        let discard = request(Operation::Discard, 0, &[]);
        assert_eq!(refusal(&discard, &LIMITS), Refusal::NotSupported(5));
        let flush = request(Operation::Flush, 0, &[]);
        assert_eq!(check(&flush, &LIMITS), Ok(Job::Flush));
        let no_cache = Limits { flush: false, ..LIMITS };
        assert_eq!(refusal(&flush, &no_cache), Refusal::NotSupported(3));
    }

    proptest! {
        #[test]
        fn what_passes_stays_in_its_pages_and_on_the_disk(
            operation in 0..8_u8,
            segments: u8,
            sector in prop_oneof![0..1100_u64, any::<u64>()],
            places in prop::collection::vec((0..10_u8, 0..10_u8), MAX_SEGMENTS),
            limits in (0..1100_u64, any::<bool>(), any::<bool>()),
        ) {
            let (sectors, read_only, flush) = limits;
            let limits = Limits { sectors, read_only, flush };
            let mut request = request(Operation::Read, sector, &places);
            (request.operation, request.segments) = (operation, segments % 16);
            if let Ok(Job::Transfer { direction, sector, pieces }) = check(&request, &limits) {
                prop_assert!(direction == Direction::FromDisk || !read_only);
                prop_assert_eq!(pieces.len(), usize::from(request.segments));
                prop_assert!(pieces.iter().all(|piece| piece.length > 0));
                prop_assert!(pieces.iter().all(|piece| piece.offset + piece.length <= 4096));
                let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.length)).sum();
                prop_assert!(sector * 512 + bytes <= sectors * 512);
            }
        }
    }
}
