//! Where the linker put this kernel.

use core::ops::Range;

use super::stack::Area;

macro_rules! symbols {
    ($($name:ident)*) => {
        unsafe extern "C" { $(static $name: u8;)* }
    };
}

symbols! {
    __image_start __text_end __rodata_end __image_end __stack_guard __stack_bottom
    __exception_stack_top
}

macro_rules! address {
    // Only the symbol's address is taken.
    ($name:ident) => {
        (&raw const $name).addr() as u64
    };
}

/// The whole image, with what it does not load (zeroed data, stacks).
pub(crate) fn whole() -> Range<u64> {
    address!(__image_start)..address!(__image_end)
}

/// Code.
pub(super) fn text() -> Range<u64> {
    address!(__image_start)..address!(__text_end)
}

/// Constants.
pub(super) fn constants() -> Range<u64> {
    address!(__text_end)..address!(__rodata_end)
}

/// The page into which the stack overflows.
pub(super) fn stack_guard() -> Range<u64> {
    address!(__stack_guard)..address!(__stack_bottom)
}

/// Both stacks.
pub(super) fn stacks() -> Range<u64> {
    address!(__stack_bottom)..address!(__exception_stack_top)
}

/// Where the stacks of other vCPUs than the first are.
static STACKS: spin::Once<Range<u64>> = spin::Once::new();

/// Notes where they are.
pub(crate) fn set_other_stacks(stacks: Range<u64>) {
    STACKS.call_once(|| stacks);
}

/// The part of a vCPU that was started.
pub(super) fn other_stacks(vcpu: u32) -> Option<Area> {
    Area::of(STACKS.get()?, vcpu)
}
