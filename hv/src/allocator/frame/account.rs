//! What each domain has, and how much it may have.

use abi::DomId;

use super::OutOfFrames;
use super::table::{Index, Kind};

/// The most frames that the monitor keeps for a domain that may have `max_frames` of RAM.
///
/// 512 frames (2 MiB) cover the fixed records, a full grant table and more than 40,000 event
/// channels; one more for every 32 frames of RAM covers the tables of scattered mappings.
pub const fn overhead_limit(max_frames: u64) -> u64 {
    512 + max_frames / 32
}

/// One domain's frames.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Whose.
    pub domain: DomId,
    /// Whether the domain still exists. A closed account only waits for its last frames.
    pub open: bool,
    /// Frames of RAM, orphans included.
    pub frames: u64,
    /// Frames that the monitor keeps for the domain.
    pub overhead: u64,
    /// Most frames of RAM.
    pub max_frames: u64,
    ram: Index,
    orphans: Index,
    kept: Index,
}

impl Account {
    pub(super) const VACANT: Account = Account {
        domain: DomId::INVALID,
        open: false,
        frames: 0,
        overhead: 0,
        max_frames: 0,
        ram: Index::NONE,
        orphans: Index::NONE,
        kept: Index::NONE,
    };

    /// The account of a new domain.
    pub(super) fn opened(domain: DomId, max_frames: u64) -> Account {
        Account { domain, open: true, max_frames, ..Account::VACANT }
    }

    /// Whether another domain may use it.
    pub fn is_vacant(&self) -> bool {
        !self.open && self.frames == 0 && self.overhead == 0
    }

    /// The list of its frames of a kind; all kinds of overhead share one.
    #[inline(always)]
    pub(super) fn list(&mut self, kind: Kind) -> &mut Index {
        match kind {
            Kind::Ram => &mut self.ram,
            Kind::Orphan => &mut self.orphans,
            _ => &mut self.kept,
        }
    }

    /// Charges frames, if they fit in the budget.
    #[inline(always)]
    pub(super) fn charge(&mut self, kind: Kind, count: u64) -> Result<(), OutOfFrames> {
        let (used, limit) = match kind {
            Kind::Ram => (&mut self.frames, self.max_frames),
            _ => (&mut self.overhead, overhead_limit(self.max_frames)),
        };
        let charged = used.saturating_add(count);
        if !self.open || charged > limit {
            return Err(OutOfFrames::OverBudget);
        }
        *used = charged;
        Ok(())
    }

    /// Takes back what was charged.
    #[inline(always)]
    pub(super) fn refund(&mut self, kind: Kind, count: u64) {
        let used = match kind {
            Kind::Ram | Kind::Orphan => &mut self.frames,
            _ => &mut self.overhead,
        };
        debug_assert!(*used >= count, "{}: more frames returned than taken", self.domain);
        *used = used.saturating_sub(count);
    }
}
