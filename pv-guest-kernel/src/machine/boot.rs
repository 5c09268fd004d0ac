//! The first instructions: the arm64 Image header, relocation, zeroed data, a stack.
//!
//! The boot protocol (Linux, Documentation/arch/arm64/booting) enters at the image's first byte,
//! at EL1 with MMU and caches off and interrupts masked, x0 = device tree. The image is linked at
//! 0 and lies at any page.

use aarch64_cpu::registers::TPIDR_EL1;
use fdt::Fdt;
use tock_registers::interfaces::Writeable;

use super::{mmu, vectors};
use crate::local::HOME;
use crate::{device_tree, start};

core::arch::global_asm!(
    r#"
    .section .text.boot, "ax"
    .global _start
    .type _start, @function
_start:
    b       1f
    .long   0
    // No text_offset; little-endian, 4 KiB pages, anywhere; "ARMd".
    .quad   0, __image_size, 0xa, 0, 0, 0, 0x644d5241

1:  msr     daifset, #0xf
    adrp    x1, __image_start       // page-aligned: no low part
    adrp    x2, __rela_start
    add     x2, x2, :lo12:__rela_start
    adrp    x3, __rela_end
    add     x3, x3, :lo12:__rela_end
2:  cmp     x2, x3
    b.hs    3f
    ldp     x4, x5, [x2], #16       // offset, type
    ldr     x6, [x2], #8            // addend
    cmp     x5, #0x403              // R_AARCH64_RELATIVE
    b.ne    2b
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       2b

3:  adrp    x2, __bss_start
    add     x2, x2, :lo12:__bss_start
    adrp    x3, __bss_end
    add     x3, x3, :lo12:__bss_end
4:  cmp     x2, x3
    b.hs    5f
    stp     xzr, xzr, [x2], #16
    b       4b

5:  msr     spsel, #1
    adrp    x2, __exception_stack_top
    mov     sp, x2
    msr     spsel, #0
    adrp    x2, __stack_top
    mov     sp, x2
    mov     x29, xzr                // the end of every backtrace
    mov     x30, xzr
    b       {entry}
    "#,
    entry = sym entry,
);

/// Continues with the MMU still off: memory is Device memory, so no atomics yet.
extern "C" fn entry(device_tree: usize) -> ! {
    TPIDR_EL1.set(HOME.into());
    vectors::install();
    let blob = device_tree_at(device_tree);
    let enable = |tree: Fdt<'static>| {
        let stacks = start::other_stacks(&tree, blob);
        mmu::enable(&tree, &stacks).map_err(drop)
    };
    match device_tree::parse(blob).map_err(drop).and_then(enable) {
        Ok(()) => start::start(blob),
        // Without a device tree there is no memory map, and without that no console.
        Err(()) => super::halt(),
    }
}

fn device_tree_at(address: usize) -> &'static [u8] {
    /// Magic number and total size, both big-endian.
    const HEADER_START: usize = 8;
    let start: *const u8 = core::ptr::with_exposed_provenance(address);
    // SAFETY: the boot protocol says that a device tree is there.
    let header = unsafe { core::slice::from_raw_parts(start, HEADER_START) };
    let size = header.iter().skip(4).fold(0, |size, &byte| size << 8 | usize::from(byte));
    // SAFETY: this is the size that the tree says it has; boot keeps the heap away from it.
    unsafe { core::slice::from_raw_parts(start, size) }
}
