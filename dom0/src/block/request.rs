//! What a guest may ask of its disk. A request is the guest's claim: here it is checked, once,
//! on a copy that the guest can no longer change.

use abi::GrantRef;
use abi::block::{
    MAX_INDIRECT_PAGES, MAX_SEGMENTS, Operation, Request, SEGMENTS_PER_PAGE, Segment,
};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Segments of an indirect request: 1 MiB in whole pages.
pub(super) const MAX_INDIRECT_SEGMENTS: u16 = 256;
const _: () = assert!(MAX_INDIRECT_SEGMENTS as usize <= MAX_INDIRECT_PAGES * SEGMENTS_PER_PAGE);

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// This backend does not do that.
    #[error("operation {0} is not supported")]
    NotSupported(u8),
    #[error("{count} segments, where there may be 1 to {most}")]
    SegmentCount { count: u16, most: u16 },
    #[error("a flush with {0} segments")]
    FlushWithData(u8),
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
    pub(super) discard: bool,
}

/// Which way data moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FromDisk,
    ToDisk,
}

/// A request that makes sense, as far as can be told without its segments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    Transfer { direction: Direction, sector: u64, segments: Segments },
    Flush,
    Discard { sector: u64, count: u64 },
}

/// Where a request's segments are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Segments {
    /// In the request.
    Direct { count: usize, segments: [Segment; MAX_SEGMENTS] },
    /// In pages of their own.
    Indirect { count: usize, pages: [GrantRef; MAX_INDIRECT_PAGES] },
}

/// Checks a request.
pub(super) fn check(request: &Request, limits: &Limits) -> Result<Job, Refusal> {
    match Operation::from_raw(request.operation) {
        Some(Operation::Indirect) => check_indirect(request, limits),
        Some(Operation::Flush) if limits.flush => match request.segments {
            // Nothing in the protocol says what its segments would mean.
            0 => Ok(Job::Flush),
            count => Err(Refusal::FlushWithData(count)),
        },
        Some(Operation::Discard) if limits.discard => check_discard(request, limits),
        _ => {
            let direction = direction(request.operation, limits)?;
            let count = count(request.segments.into(), MAX_SEGMENTS as u16)?;
            let segments = Segments::Direct { count, segments: request.segment };
            Ok(Job::Transfer { direction, sector: request.sector, segments })
        }
    }
}

/// What a request's response says was done: for an indirect one, what it carries. Linux' frontend
/// gives a disk up that answers otherwise.
pub(super) fn operation_done(request: &Request) -> u8 {
    match Operation::from_raw(request.operation) {
        Some(Operation::Indirect) => request.as_indirect().indirect_operation,
        _ => request.operation,
    }
}

fn check_indirect(request: &Request, limits: &Limits) -> Result<Job, Refusal> {
    let request = request.as_indirect();
    let direction = direction(request.indirect_operation, limits)?;
    let count = count(request.segments, MAX_INDIRECT_SEGMENTS)?;
    let segments = Segments::Indirect { count, pages: request.pages };
    Ok(Job::Transfer { direction, sector: request.sector, segments })
}

fn check_discard(request: &Request, limits: &Limits) -> Result<Job, Refusal> {
    let request = request.as_discard();
    if limits.read_only {
        return Err(Refusal::ReadOnly);
    }
    limits.check_range(request.sector, request.sectors)?;
    // "Secure" was not offered; what is asked for is done, and no more.
    Ok(Job::Discard { sector: request.sector, count: request.sectors })
}

fn direction(operation: u8, limits: &Limits) -> Result<Direction, Refusal> {
    match Operation::from_raw(operation) {
        Some(Operation::Read) => Ok(Direction::FromDisk),
        Some(Operation::Write) if limits.read_only => Err(Refusal::ReadOnly),
        Some(Operation::Write) => Ok(Direction::ToDisk),
        _ => Err(Refusal::NotSupported(operation)),
    }
}

fn count(count: u16, most: u16) -> Result<usize, Refusal> {
    if count == 0 || count > most {
        return Err(Refusal::SegmentCount { count, most });
    }
    Ok(count.into())
}

impl Limits {
    /// Whether so many sectors are on the disk.
    pub(super) fn check_range(&self, sector: u64, count: u64) -> Result<(), Refusal> {
        match sector.checked_add(count) {
            Some(end) if end <= self.sectors => Ok(()),
            _ => Err(Refusal::BeyondEnd { sector, count }),
        }
    }
}
