//! System time: that of deadlines and of run-state records, in nanoseconds. Where its zero is, is the
//! monitor's own affair. Xen's is when Xen was booted, while a domain's counter begins with the
//! domain; here it is the counter's.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0};
use pv_guest_kernel::abi::Errno;
use pv_guest_kernel::shared::SharedPage;
use pv_guest_kernel::time;
use tock_registers::interfaces::Readable;

use crate::record;

const NANOSECONDS: u64 = 1_000_000_000;

/// How often the vCPU sleeps. On a busy machine time may go by before it has read the counter, or it
/// has not slept at all: the latest of the zeros is the best.
const SAMPLES: u32 = 10;

/// System time when the counter was zero.
static ZERO: AtomicU64 = AtomicU64::new(0);

/// Finds out what it is. Nothing tells but the run-state record: since when its vCPU has had a CPU,
/// which is just now if it has slept.
pub async fn find() -> Result<(), Errno> {
    let page = SharedPage::allocate().map_err(|_| Errno::ENOMEM)?;
    record::register(0, record::place(&page))?;
    let mut zero = i64::MIN;
    for _ in 0..SAMPLES {
        time::sleep(Duration::from_millis(1)).await;
        let since = record::read(&page).entry_time;
        zero = zero.max(since.wrapping_sub(counter()).cast_signed());
    }
    ZERO.store(zero.cast_unsigned(), Ordering::Relaxed);
    // Nobody writes to the page any more when it is given back.
    record::register(0, record::NOWHERE).map(drop)
}

/// System time so long after now.
pub fn after(duration: Duration) -> u64 {
    counter().wrapping_add(ZERO.load(Ordering::Relaxed)).wrapping_add(duration.as_nanos() as u64)
}

/// Nanoseconds by the virtual counter.
fn counter() -> u64 {
    let (counter, frequency) = (CNTVCT_EL0.get(), CNTFRQ_EL0.get().max(1));
    counter / frequency * NANOSECONDS + counter % frequency * NANOSECONDS / frequency
}
