//! Event channels: the only interrupts that a paravirtual guest needs.
//!
//! The monitor sets a port's bit in the shared-info page, the bit of that word in this vCPU's
//! selector, and a flag which says "look" (the 2-level ABI, public/xen.h). [`dispatch`] goes that
//! way back and wakes whoever waits on the [`Channel`].

use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::mem::{offset_of, take};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use abi::event::Virq;
use abi::shared_info::{PortBit, SharedInfo, VcpuInfo};
use abi::{DomId, Errno, Port};

use crate::condition;
use crate::hypercall::event_channel;
use crate::local::StaysHome;
use crate::machine;
use crate::shared::SharedPage;

/// An event channel's local end, owned: it is closed when dropped.
#[derive(Debug)]
pub struct Channel {
    port: Port,
    _stays_home: StaysHome,
}

impl Channel {
    /// A channel that `remote` may bind its end to.
    ///
    /// # Errors
    /// What the monitor answers.
    pub fn alloc_unbound(remote: DomId) -> Result<Channel, Errno> {
        opened(event_channel::alloc_unbound(DomId::SELF, remote))
    }

    /// The other end of a port that `remote` allocated for this domain.
    ///
    /// # Errors
    /// What the monitor answers.
    pub fn bind_interdomain(remote: DomId, remote_port: Port) -> Result<Channel, Errno> {
        opened(event_channel::bind_interdomain(remote, remote_port))
    }

    /// A channel on which the monitor raises a virtual interrupt.
    ///
    /// # Errors
    /// What the monitor answers.
    pub fn bind_virq(virq: Virq) -> Result<Channel, Errno> {
        opened(event_channel::bind_virq(virq))
    }

    /// Both ends of a channel within this domain.
    ///
    /// # Errors
    /// What the monitor answers.
    pub fn loopback() -> Result<(Channel, Channel), Errno> {
        let first = Channel::alloc_unbound(DomId::SELF)?;
        let second = Channel::bind_interdomain(DomId::SELF, first.port)?;
        Ok((first, second))
    }

    /// Takes over a port that exists, for example one that the toolstack made.
    ///
    /// # Errors
    /// If this domain has no shared-info page and cannot get one.
    pub fn adopt(port: Port) -> Result<Channel, Errno> {
        attach()?;
        with_slot(port, |slot| *slot = Slot::default());
        Ok(Channel { port, _stays_home: StaysHome::new() })
    }

    /// The local port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Signals the other end. If that is gone nobody hears it; drivers learn of that by the store.
    pub fn notify(&self) {
        if let Err(error) = event_channel::send(self.port) {
            log::debug!("event channel {}: {error}", self.port);
        }
    }

    /// Waits until the channel was signalled since the last wait ended. May return without cause.
    /// One task at a time can wait on a channel.
    pub async fn wait(&self) {
        core::future::poll_fn(|context| self.poll(context)).await;
    }

    /// The same, of a task that looks by itself whether it goes on.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        with_slot(self.port, |slot| {
            if take(&mut slot.fired) {
                return Poll::Ready(());
            }
            condition::remember(&mut slot.waker, context.waker());
            Poll::Pending
        })
    }
}

/// Takes over a port that was just opened, if it was.
fn opened(port: Result<Port, Errno>) -> Result<Channel, Errno> {
    if port == Err(Errno::ENOSPC) {
        log::error!(
            "this domain has used up its event channels; event_channels in its domain file says \
             how many it may have"
        );
    }
    port.and_then(Channel::adopt)
}

impl Drop for Channel {
    fn drop(&mut self) {
        with_slot(self.port, take);
        if let Err(error) = event_channel::close(self.port) {
            log::debug!("closing event channel {}: {error}", self.port);
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    fired: bool,
    waker: Option<Waker>,
}

/// The memory in which the monitor announces events.
#[derive(Debug, Clone)]
pub struct Pages {
    /// [`SharedInfo`], from the page's start.
    pub shared_info: SharedPage,
    /// This vCPU's [`VcpuInfo`], from the page's start.
    pub vcpu_info: SharedPage,
}

crate::vcpu_local! {
    static PAGES: OnceCell<Pages> = OnceCell::new();
}
crate::vcpu_local! {
    /// Indexed by port.
    static SLOTS: RefCell<Vec<Slot>> = RefCell::new(Vec::new());
}

/// Ports that other vCPUs than this one take, by word.
static OTHERS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
const WORDS: usize = (abi::shared_info::TWO_LEVEL_PORTS / 64) as usize;

/// Leaves a port to another vCPU. A word of ports has the ports of all vCPUs in it.
pub(crate) fn leave_to_other_vcpu(port: Port) {
    if let Some(PortBit { word, mask }) = PortBit::of(port) {
        OTHERS[word].fetch_or(mask, Ordering::Relaxed);
    }
}

/// The page that announces events, for vCPUs that cannot use [`PAGES`].
static SHARED_INFO: spin::Once<SharedPage> = spin::Once::new();

/// Takes a port that was left to the vCPU that executes this. Returns whether it was pending.
pub(crate) fn take_port(port: Port) -> bool {
    let (Some(page), Some(bit)) = (SHARED_INFO.get(), PortBit::of(port)) else { return false };
    let pending = offset_of!(SharedInfo, pending) + bit.word * size_of::<u64>();
    page.fetch_and_u64(pending, !bit.mask, Ordering::AcqRel) & bit.mask != 0
}

/// Gives the monitor its pages, once.
///
/// # Errors
/// What the monitor answers.
pub(crate) fn attach() -> Result<(), Errno> {
    PAGES.with(|pages| {
        if pages.get().is_none() {
            let new = machine::event_pages()?;
            SHARED_INFO.call_once(|| new.shared_info.clone());
            // Setting it cannot fail: there is nobody else.
            let _ = pages.set(new);
        }
        Ok(())
    })
}

/// The memory in which the monitor announces events, for a kernel that looks there itself.
pub fn pages() -> Option<Pages> {
    PAGES.with(|pages| pages.get().cloned())
}

/// Port numbers are the monitor's, and small: at most 4096 are in use in the 2-level ABI.
fn with_slot<R>(port: Port, access: impl FnOnce(&mut Slot) -> R) -> R {
    SLOTS.with(|slots| {
        let mut slots = slots.borrow_mut();
        let index = port.0 as usize;
        if index >= slots.len() {
            slots.resize_with(index + 1, Slot::default);
        }
        access(&mut slots[index])
    })
}

/// Takes all pending events and wakes those that wait for them. Costs one load if there are none.
pub(crate) fn dispatch() {
    PAGES.with(|pages| {
        if let Some(pages) = pages.get() {
            pages.take_pending(fire);
        }
    });
}

fn fire(port: Port) {
    with_slot(port, |slot| {
        slot.fired = true;
        slot.waker.take().into_iter().for_each(Waker::wake);
    });
}

impl Pages {
    /// Calls `fire` for each pending port that is not masked.
    fn take_pending(&self, mut fire: impl FnMut(Port)) {
        let upcall_pending = offset_of!(VcpuInfo, upcall_pending);
        let selector = offset_of!(VcpuInfo, pending_selector);
        if self.vcpu_info.load_u8(upcall_pending, Ordering::Relaxed) == 0 {
            return;
        }
        // First the flag, then the selector: an event that comes in between sets the flag again.
        self.vcpu_info.store_u8(upcall_pending, 0, Ordering::Relaxed);
        let words = self.vcpu_info.swap_u64(selector, 0, Ordering::AcqRel);
        for word in bits(words) {
            for bit in bits(self.take_word(word as usize)) {
                fire(Port(word * 64 + bit));
            }
        }
    }

    fn take_word(&self, word: usize) -> u64 {
        let pending = offset_of!(SharedInfo, pending) + word * size_of::<u64>();
        let mask = offset_of!(SharedInfo, mask) + word * size_of::<u64>();
        let others = OTHERS[word].load(Ordering::Relaxed);
        let masked = self.shared_info.load_u64(mask, Ordering::Relaxed) | others;
        self.shared_info.fetch_and_u64(pending, masked, Ordering::AcqRel) & !masked
    }
}

/// The numbers of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

/// The wall-clock time at which this domain started, if the monitor knows it.
pub(crate) fn starting_time() -> Option<Duration> {
    PAGES.with(|pages| read_wall_clock(&pages.get()?.shared_info))
}

/// The version is odd while the monitor writes, and different afterwards.
fn read_wall_clock(page: &SharedPage) -> Option<Duration> {
    let word = |offset| page.load_u32(offset, Ordering::Acquire);
    // A monitor that never finishes must not hold us here.
    for _ in 0..1000 {
        let version = word(offset_of!(SharedInfo, wallclock_version));
        let low = word(offset_of!(SharedInfo, wallclock_seconds));
        let high = word(offset_of!(SharedInfo, wallclock_seconds_high));
        let nanoseconds = word(offset_of!(SharedInfo, wallclock_nanoseconds));
        if version % 2 == 0 && version == word(offset_of!(SharedInfo, wallclock_version)) {
            let seconds = (u64::from(high) << 32) | u64::from(low);
            return (seconds != 0).then(|| {
                Duration::from_secs(seconds) + Duration::from_nanos(u64::from(nanoseconds))
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::executor;

    fn pages() -> Pages {
        Pages {
            shared_info: SharedPage::allocate().unwrap(),
            vcpu_info: SharedPage::allocate().unwrap(),
        }
    }

    fn set(pages: &Pages, port: u32, array: usize) {
        let place = PortBit::of(Port(port)).unwrap();
        let offset = array + place.word * 8;
        let word = pages.shared_info.load_u64(offset, Ordering::Relaxed);
        pages.shared_info.store_u64(offset, word | place.mask, Ordering::Relaxed);
        let selected = pages.vcpu_info.load_u64(8, Ordering::Relaxed) | 1 << place.word;
        pages.vcpu_info.store_u64(8, selected, Ordering::Relaxed);
        pages.vcpu_info.store_u8(0, 1, Ordering::Relaxed);
    }

    proptest! {
        #[test]
        fn each_pending_unmasked_port_fires_once(
            pending in prop::collection::btree_set(1u32..4096, 0..40),
            masked in prop::collection::btree_set(1u32..4096, 0..40),
        ) {
            let pages = pages();
            pending.iter().for_each(|&port| set(&pages, port, offset_of!(SharedInfo, pending)));
            masked.iter().for_each(|&port| set(&pages, port, offset_of!(SharedInfo, mask)));
            let mut fired = Vec::new();
            pages.take_pending(|port| fired.push(port.0));
            let expected: Vec<u32> = pending.difference(&masked).copied().collect();
            prop_assert_eq!(&fired, &expected);
            pages.take_pending(|port| fired.push(port.0));
            prop_assert_eq!(&fired, &expected);
            let left: BTreeSet<u32> = (1..4096)
                .filter(|&port| {
                    let place = PortBit::of(Port(port)).unwrap();
                    let offset = offset_of!(SharedInfo, pending) + place.word * 8;
                    pages.shared_info.load_u64(offset, Ordering::Relaxed) & place.mask != 0
                })
                .collect();
            prop_assert_eq!(left, pending.intersection(&masked).copied().collect());
        }
    }

    #[test]
    fn nothing_fires_without_the_flag() {
        let pages = pages();
        set(&pages, 7, offset_of!(SharedInfo, pending));
        pages.vcpu_info.store_u8(0, 0, Ordering::Relaxed);
        pages.take_pending(|_| panic!("fired"));
    }

    #[test]
    fn the_wall_clock_is_unknown_while_it_is_written() {
        let page = SharedPage::allocate().unwrap();
        assert_eq!(read_wall_clock(&page), None);
        page.store_u32(offset_of!(SharedInfo, wallclock_seconds), 5, Ordering::Relaxed);
        page.store_u32(offset_of!(SharedInfo, wallclock_seconds_high), 1, Ordering::Relaxed);
        page.store_u32(offset_of!(SharedInfo, wallclock_nanoseconds), 9, Ordering::Relaxed);
        assert_eq!(read_wall_clock(&page), Some(Duration::new((1 << 32) + 5, 9)));
        page.store_u32(offset_of!(SharedInfo, wallclock_version), 3, Ordering::Relaxed);
        assert_eq!(read_wall_clock(&page), None);
    }

    #[test]
    fn a_signal_before_or_during_the_wait_ends_it() {
        let (first, second) = Channel::loopback().unwrap();
        executor::run(async move {
            first.notify();
            second.wait().await;
            let waiter = executor::spawn(async move {
                second.wait().await;
                second
            });
            executor::yield_now().await;
            first.notify();
            let second = waiter.await;
            second.notify();
            first.wait().await;
        });
    }

    #[test]
    fn a_closed_port_is_used_again_without_old_events() {
        let (first, second) = Channel::loopback().unwrap();
        let port = second.port();
        first.notify();
        drop((first, second));
        let (third, fourth) = Channel::loopback().unwrap();
        assert!([third.port(), fourth.port()].contains(&port));
        executor::run(async move {
            let waiter = executor::spawn(async move { fourth.wait().await });
            crate::time::sleep(Duration::from_millis(5)).await;
            assert!(!waiter.is_finished());
        });
    }
}
