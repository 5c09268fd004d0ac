//! From the MMU being on to the kernel's main function.

use alloc::boxed::Box;
use core::ops::Range;

use abi::sched::ShutdownReason;
use fdt::Fdt;

use crate::device_tree::DeviceTreeError;
use crate::memory::{free, heap};
use crate::{
    Environment, console, device_tree, event, executor, hypercall, logger, machine, power,
};

unsafe extern "Rust" {
    /// Defined by [`crate::guest_main!`].
    safe fn guest_main(environment: &'static Environment) -> executor::MainFuture;
}

/// Entered once, on the stack that boot made.
pub(crate) fn start(blob: &'static [u8]) -> ! {
    machine::start_timer();
    match describe(blob) {
        Ok(environment) => run(Box::leak(Box::new(environment))),
        Err(error) => panic!("{error}"),
    }
}

fn describe(blob: &'static [u8]) -> Result<Environment, DeviceTreeError> {
    let tree = device_tree::parse(blob)?;
    let ramdisk = device_tree::initrd_range(&tree);
    start_heap(&tree, blob, ramdisk.clone().unwrap_or(0..0));
    let mut environment = Environment::from_device_tree(blob)?;
    environment.initrd = ramdisk.map(|range| {
        let start = core::ptr::with_exposed_provenance(range.start as usize);
        // SAFETY: the toolstack put the ramdisk there, and it is not in the heap.
        unsafe { core::slice::from_raw_parts(start, (range.end - range.start) as usize) }
    });
    Ok(environment)
}

fn start_heap(tree: &Fdt<'static>, blob: &'static [u8], ramdisk: Range<u64>) {
    let blob_start = blob.as_ptr().addr() as u64;
    let blob = blob_start..blob_start + blob.len() as u64;
    let mut used = [machine::image_range(), blob, ramdisk];
    for gap in free::gaps(device_tree::memory(tree), &mut used) {
        // SAFETY: RAM, by the device tree, and none of what boot left in it.
        unsafe { heap::add(&gap) };
    }
}

fn run(environment: &'static Environment) -> ! {
    machine::start_interrupts(environment.interrupt_controller, environment.interrupts);
    machine::set_grant_window(environment.grant_window.clone());
    if let Err(error) = connect() {
        panic!("the monitor refuses events or the console: {error}");
    }
    logger::start(environment.argument("log"));
    executor::run(guest_main(environment));
    power::shutdown(ShutdownReason::Poweroff)
}

fn connect() -> Result<(), abi::Errno> {
    event::attach()?;
    console::connect(hypercall::version::features()?)
}
