//! The end of a kernel that found a bug in itself: it says what and where, and the domain crashes.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::sched::ShutdownReason;

use crate::{machine, power, println};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    // A panic while telling of one is not told.
    if !PANICKED.swap(true, Ordering::Relaxed) {
        match info.location() {
            Some(location) => println!("\nPANIC: {} at {location}", info.message()),
            None => println!("\nPANIC: {}", info.message()),
        }
        print_backtrace(machine::backtrace());
    }
    power::shutdown(ShutdownReason::Crash)
}

/// Offsets from the image's start are addresses in its ELF file: `addr2line -e FILE` reads them.
pub(crate) fn print_backtrace(addresses: impl Iterator<Item = u64>) {
    println!("backtrace (offsets in the image):");
    for address in addresses {
        println!("  {address:#x}");
    }
}
