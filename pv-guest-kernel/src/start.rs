//! From the MMU being on to the kernel's main function.

use alloc::boxed::Box;
use core::ops::Range;

use abi::sched::ShutdownReason;
use fdt::Fdt;

use crate::device_tree::DeviceTreeError;
use crate::memory::{self, free, heap};
use crate::{
    Environment, console, device_tree, event, executor, hypercall, logger, machine, power, smp,
};

unsafe extern "Rust" {
    /// Defined by [`crate::guest_main!`].
    safe fn guest_main(environment: &'static Environment) -> executor::MainFuture;
}

/// Entered once, on the stack that boot made.
pub(crate) fn start(blob: &'static [u8]) -> ! {
    machine::start_timer();
    machine::start_copying();
    match describe(blob) {
        Ok(environment) => run(Box::leak(Box::new(environment))),
        Err(error) => panic!("{error}"),
    }
}

fn describe(blob: &'static [u8]) -> Result<Environment, DeviceTreeError> {
    let tree = device_tree::parse(blob)?;
    let ramdisk = device_tree::initrd_range(&tree);
    let stacks = other_stacks(&tree, blob);
    start_heap(
        &tree,
        &mut [
            machine::image_range(),
            stacks.clone(),
            range_of(blob),
            ramdisk.clone().unwrap_or(0..0),
        ],
    );
    machine::set_stacks(stacks);
    let mut environment = Environment::from_device_tree(blob)?;
    environment.initrd = ramdisk.map(|range| {
        let start = core::ptr::with_exposed_provenance(range.start as usize);
        // SAFETY: the toolstack put the ramdisk there, and it is not in the heap.
        unsafe { core::slice::from_raw_parts(start, (range.end - range.start) as usize) }
    });
    Ok(environment)
}

/// Where the stacks of vCPUs other than this one are.
pub(crate) fn other_stacks(tree: &Fdt<'static>, blob: &'static [u8]) -> Range<u64> {
    let ramdisk = device_tree::initrd_range(tree).unwrap_or(0..0);
    let used = [range_of(blob), ramdisk];
    let vcpus = device_tree::vcpus(tree).min(smp::MAX_VCPUS);
    machine::stacks_behind(machine::image_range().end, vcpus, device_tree::memory(tree), &used)
}

fn range_of(bytes: &[u8]) -> Range<u64> {
    let start = bytes.as_ptr().addr() as u64;
    start..start + bytes.len() as u64
}

/// Gives the heap all RAM but what is used.
fn start_heap(tree: &Fdt<'static>, used: &mut [Range<u64>]) {
    device_tree::memory(tree).for_each(|bank| memory::ram().add(&bank));
    for gap in free::gaps(device_tree::memory(tree), used) {
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
