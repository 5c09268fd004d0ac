//! `hvm_op` (public/hvm/hvm_op.h, public/hvm/params.h): a domain's parameters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, layout, numbers};

numbers! {
    /// Commands of `hvm_op`; x1 points to a [`Param`].
    pub enum Command: u64 {
        /// Sets a parameter (privileged).
        SetParam = 0,
        /// Reads one.
        GetParam = 1,
    }
}

numbers! {
    /// Parameters that exist on arm64.
    pub enum Index: u32 {
        /// How events arrive: type in the top byte (2: PPI), INTID in the low byte.
        CallbackIrq = 0,
        /// Frame of the store's ring.
        StorePfn = 1,
        /// Port of the store's ring.
        StoreEvtchn = 2,
        /// Frame of the console's ring.
        ConsolePfn = 17,
        /// Port of the console's ring.
        ConsoleEvtchn = 18,
        /// Frame of the ring on which a debugger listens (toolstack only).
        MonitorRingPfn = 28,
    }
}

/// Value of [`Index::CallbackIrq`] for the PPI 31, level-sensitive and active low.
pub const CALLBACK_PPI_31: u64 = (2 << 56) | (1 << 9) | 31;

/// Argument of both commands.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Param {
    /// In.
    pub domid: DomId,
    /// Reserved.
    pub padding: u16,
    /// In: [`Index`]
    pub index: u32,
    /// In or out.
    pub value: u64,
}
layout!(Param, 16, index @ 4, value @ 8);
