//! Stage-2 translation descriptors (Arm ARM D8.3, VMSAv8-64, 4 KiB granule).

use core::sync::atomic::Ordering;

use crate::machine::memory::RamFrame;
use crate::types::Mfn;

/// What a guest-physical page or block is. Kept in the descriptor's bits that the hardware
/// ignores; it also says how the page may be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LeafKind {
    /// The domain's own RAM; the only kind that may be executed.
    Ram = 1,
    /// Another domain's RAM. The leaf holds the frame.
    Foreign = 2,
    /// A granted frame. The mapper's grant record holds it.
    GrantWritable = 3,
    /// A granted frame, only for reading.
    GrantReadOnly = 4,
    /// A page shared with the monitor. The leaf holds the frame.
    SharedPage = 5,
    /// Device registers.
    Device = 6,
}

impl LeafKind {
    const fn from_number(number: u64) -> Option<LeafKind> {
        match number {
            1 => Some(LeafKind::Ram),
            2 => Some(LeafKind::Foreign),
            3 => Some(LeafKind::GrantWritable),
            4 => Some(LeafKind::GrantReadOnly),
            5 => Some(LeafKind::SharedPage),
            6 => Some(LeafKind::Device),
            _ => None,
        }
    }

    /// Whether the domain may write there.
    pub const fn writable(self) -> bool {
        !matches!(self, LeafKind::GrantReadOnly)
    }

    /// Whether it is a mapping made by a grant, which only the grant's end may remove.
    pub const fn is_grant(self) -> bool {
        matches!(self, LeafKind::GrantWritable | LeafKind::GrantReadOnly)
    }
}

/// Where a translation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// The machine frame. Of a block: its first, or the one asked for.
    pub mfn: Mfn,
    /// What it is.
    pub kind: LeafKind,
}

/// Bit 0: the descriptor is valid.
const VALID: u64 = 1 << 0;
/// Bit 1: a table at levels 1 and 2, a page at level 3; a block if clear.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// MemAttr\[5:2\]: Normal, inner and outer write-back cacheable.
const NORMAL: u64 = 0b1111 << 2;
/// MemAttr\[5:2\]: Device-nGnRE.
const DEVICE: u64 = 0b0001 << 2;
/// S2AP\[7:6\].
const READ: u64 = 0b01 << 6;
const WRITE: u64 = 0b10 << 6;
/// SH\[9:8\].
const INNER_SHAREABLE: u64 = 0b11 << 8;
/// Bit 10: do not fault on the first access.
const ACCESSED: u64 = 1 << 10;
/// Bits 47 to 12: output address.
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
/// Bit 54: never executable.
const EXECUTE_NEVER: u64 = 1 << 54;
/// Bits 58 to 55 are for software: the [`LeafKind`].
const KIND_SHIFT: u32 = 55;
const KIND_MASK: u64 = 0b1111;

/// The size of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Level 3: 4 KiB.
    Page,
    /// Level 2: 2 MiB.
    Block,
}

/// One entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor(u64);

impl Descriptor {
    pub(super) const INVALID: Descriptor = Descriptor(0);

    #[inline(always)]
    pub(super) fn leaf(leaf: Leaf, size: Size) -> Descriptor {
        let memory = match leaf.kind {
            LeafKind::Device => DEVICE,
            _ => NORMAL | INNER_SHAREABLE,
        };
        let write = if leaf.kind.writable() { WRITE } else { 0 };
        let execute = if leaf.kind == LeafKind::Ram { 0 } else { EXECUTE_NEVER };
        let size = if size == Size::Page { TABLE_OR_PAGE } else { 0 };
        let kind = u64::from(leaf.kind as u8) << KIND_SHIFT;
        let address = leaf.mfn.address() & ADDRESS;
        Descriptor(VALID | size | memory | READ | write | ACCESSED | address | execute | kind)
    }

    pub(super) fn table(table: RamFrame) -> Descriptor {
        Descriptor(VALID | TABLE_OR_PAGE | table.mfn().address())
    }

    /// The descriptor as the hardware reads it.
    #[cfg(test)]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// What a descriptor at level 3 says.
    #[inline]
    pub(super) fn as_page(self) -> Option<Leaf> {
        (self.0 & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE).then(|| self.output())?
    }

    /// What a descriptor above level 3 says.
    #[inline]
    pub(super) fn as_node(self) -> Node {
        match self.0 & (VALID | TABLE_OR_PAGE) {
            VALID => self.output().map_or(Node::Empty, Node::Block),
            _ => self.as_table().map_or(Node::Empty, Node::Table),
        }
    }

    /// The table that a descriptor above level 3 leads to.
    #[inline(always)]
    pub(super) fn as_table(self) -> Option<RamFrame> {
        const TABLE: u64 = VALID | TABLE_OR_PAGE;
        #[expect(unsafe_code, reason = "translation tables lead to each other by address")]
        // SAFETY: only `table` makes such a descriptor, from a frame of the pool, and it is
        // cleared before the frame is given back.
        let table = unsafe { RamFrame::new(Mfn::containing(self.0 & ADDRESS)) };
        (self.0 & TABLE == TABLE).then_some(table)
    }

    /// The frame of the domain's own RAM that a leaf of this size leads to; of a block the one at
    /// `offset`.
    #[inline(always)]
    pub(super) fn as_own_ram(self, size: Size, offset: u64) -> Option<RamFrame> {
        let bits = VALID | if size == Size::Page { TABLE_OR_PAGE } else { 0 };
        let mfn = Mfn(Mfn::containing(self.0 & ADDRESS).0 + offset);
        #[expect(unsafe_code, reason = "the descriptor is what knows that the frame is RAM")]
        // SAFETY: only a leaf of the domain's own RAM may be executed, and such a leaf maps frames
        // that the pool has given to the domain.
        let frame = unsafe { RamFrame::new(mfn) };
        let own = self.0 & (VALID | TABLE_OR_PAGE) == bits && self.0 & EXECUTE_NEVER == 0;
        own.then_some(frame)
    }

    fn output(self) -> Option<Leaf> {
        let kind = LeafKind::from_number((self.0 >> KIND_SHIFT) & KIND_MASK)?;
        Some(Leaf { mfn: Mfn::containing(self.0 & ADDRESS), kind })
    }
}

/// A descriptor above level 3.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    Empty,
    Block(Leaf),
    Table(RamFrame),
}

/// The place of a descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) table: RamFrame,
    /// Below [`ENTRIES`].
    pub(super) index: usize,
}

/// Descriptors in a table of one frame.
pub(super) const ENTRIES: usize = 512;

impl Slot {
    /// The slots of a table.
    pub(super) fn all(table: RamFrame) -> impl Iterator<Item = Slot> {
        (0..ENTRIES).map(move |index| Slot { table, index })
    }

    #[inline]
    pub(super) fn load(self) -> Descriptor {
        Descriptor(self.table.u64((self.index % ENTRIES) * 8).load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn store(self, descriptor: Descriptor) {
        self.table.u64((self.index % ENTRIES) * 8).store(descriptor.0, Ordering::Relaxed);
    }
}
