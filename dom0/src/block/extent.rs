//! Consecutive sectors of a real disk.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::any::Any;

use abi::block::SECTOR_SIZE;
use futures_util::future::join_all;

use super::disk::{Disk, IoError};
use super::memory::Memory;
use super::queue::{MAX_SPANS, Operation};
use super::request::{Direction, Limits};
use super::work::Work;
use crate::virtio::Span;

/// Consecutive sectors of a real disk.
#[derive(Clone)]
pub(super) struct Extent {
    pub(super) disk: Rc<Disk>,
    /// The first of them.
    pub(super) first: u64,
    /// How many.
    pub(super) sectors: u64,
}

impl Extent {
    /// Whether it is the same sectors.
    pub(super) fn is_same(&self, other: &Extent) -> bool {
        Rc::ptr_eq(&self.disk, &other.disk) && self.first == other.first
    }

    /// What it allows.
    pub(super) fn limits(&self, read_only: bool) -> Limits {
        let info = &self.disk.info;
        Limits {
            sectors: self.sectors,
            read_only,
            flush: info.flush,
            discard: info.discard.is_some(),
        }
    }

    /// In units of how many sectors it is discarded best.
    pub(super) fn discard_unit(&self) -> u32 {
        self.disk.info.discard.map_or(1, |discard| discard.unit)
    }

    /// Waits until its disk is done with what was begun before.
    pub(super) async fn settled(&self) {
        self.disk.settled().await;
    }

    /// Does work that lies within it.
    pub(super) async fn perform(self, work: Work) -> Result<(), IoError> {
        match work {
            Work::Transfer { direction, sector, memory } => {
                self.transfer(direction, sector, memory).await
            }
            Work::Flush => self.disk.transfer(Operation::Flush, 0, &[], ()).await,
            Work::Discard { sector, count } => self.discard(sector, count).await,
        }
    }

    async fn transfer(
        &self,
        direction: Direction,
        sector: u64,
        memory: Rc<Memory>,
    ) -> Result<(), IoError> {
        let spans = memory.spans().ok_or(IoError::Memory)?;
        self.transfer_spans(direction, sector, &spans, memory).await
    }

    /// As many transfers as that takes, all at once. They own the memory until the device is done.
    pub(super) async fn transfer_spans(
        &self,
        direction: Direction,
        sector: u64,
        spans: &[Span],
        memory: impl Any + Clone,
    ) -> Result<(), IoError> {
        let operation = match direction {
            Direction::FromDisk => Operation::Read,
            Direction::ToDisk => Operation::Write,
        };
        let mut next = self.first + sector;
        if spans.len() <= MAX_SPANS {
            return self.disk.transfer(operation, next, spans, memory).await;
        }
        let mut transfers = Vec::new();
        for spans in spans.chunks(MAX_SPANS) {
            transfers.push(self.disk.transfer(operation, next, spans, memory.clone()));
            let bytes: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
            next += bytes / SECTOR_SIZE as u64;
        }
        join_all(transfers).await.into_iter().collect()
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), IoError> {
        let most = self.disk.info.discard.ok_or(IoError::Unsupported)?.most;
        let (mut next, end) = (self.first + sector, self.first + sector + count);
        while next < end {
            let part = u32::try_from(end - next).unwrap_or(u32::MAX).min(most);
            self.disk.transfer(Operation::Discard(part), next, &[], ()).await?;
            next += u64::from(part);
        }
        Ok(())
    }
}
