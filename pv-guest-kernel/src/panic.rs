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
        machine::print_backtrace(machine::backtrace());
    }
    power::shutdown(ShutdownReason::Crash)
}
