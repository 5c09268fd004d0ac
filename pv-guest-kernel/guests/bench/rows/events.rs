//! Events that this domain sends to itself, through a channel that has both ends here.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::shared_info::{PortBit, SharedInfo};
use pv_guest_kernel::abi::{Errno, Port};
use pv_guest_kernel::event::{self, Channel};
use pv_guest_kernel::hypercall::event_channel;
use pv_guest_kernel::shared::SharedPage;

use crate::machine::interrupt;
use crate::report::{Failure, Report};

/// Measures them.
///
/// # Errors
/// The channel cannot be made.
pub async fn rows(report: &Report) -> Result<(), Failure> {
    let (sender, receiver) = Channel::loopback()?;
    let bits = Bits::of(receiver.port())?;
    let port = sender.port();
    bits.set_masked(true);
    report
        .row("send-pending", |ruler| {
            let (ticks, sent) = ruler.time(|| event_channel::send(port));
            sent?;
            bits.pending().then_some(ticks).ok_or(Failure::Wrong("the event is not pending"))
        })
        .await;
    report
        .row("send-masked", |ruler| {
            bits.clear();
            let (ticks, sent) = ruler.time(|| event_channel::send(port));
            sent?;
            bits.pending().then_some(ticks).ok_or(Failure::Wrong("the event is not pending"))
        })
        .await;
    bits.clear();
    bits.set_masked(false);
    interrupt::watch(receiver.port());
    report
        .row("event-full", |ruler| {
            let seen = interrupt::count();
            interrupt::unmask();
            let (ticks, sent) = ruler.time(|| {
                let sent = event_channel::send(port);
                interrupt::spin_past(seen);
                sent
            });
            interrupt::mask();
            sent.map(|()| ticks).map_err(Failure::from)
        })
        .await;
    Ok(())
}

/// A port's bits in the shared page.
struct Bits {
    page: SharedPage,
    place: PortBit,
}

impl Bits {
    fn of(port: Port) -> Result<Bits, Errno> {
        let pages = event::pages().ok_or(Errno::ENODEV)?;
        let place = PortBit::of(port).ok_or(Errno::EINVAL)?;
        Ok(Bits { page: pages.shared_info, place })
    }

    fn offset(&self, array: usize) -> usize {
        array + self.place.word * size_of::<u64>()
    }

    fn pending(&self) -> bool {
        let offset = self.offset(offset_of!(SharedInfo, pending));
        self.page.load_u64(offset, Ordering::Relaxed) & self.place.mask != 0
    }

    fn clear(&self) {
        let offset = self.offset(offset_of!(SharedInfo, pending));
        self.page.fetch_and_u64(offset, !self.place.mask, Ordering::Relaxed);
    }

    /// Only this domain writes masks.
    fn set_masked(&self, masked: bool) {
        let offset = self.offset(offset_of!(SharedInfo, mask));
        let others = self.page.load_u64(offset, Ordering::Relaxed) & !self.place.mask;
        let own = if masked { self.place.mask } else { 0 };
        self.page.store_u64(offset, others | own, Ordering::Relaxed);
    }
}
