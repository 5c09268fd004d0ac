//! A stand-in for the monitor under which drivers are tested on the host: event channels and a
//! grant table, between domains that are threads.
//!
//! A [`Monitor`] starts each of its domains on a thread of its own, with its own executor, and
//! keeps the rules between them that drivers rely on: who may bind a port, who may use a grant,
//! and that a page stays its granter's while another domain has it mapped. A thread that no
//! monitor has started plays all domains of a monitor of its own, whatever number it names: that
//! is enough for a test of one side.

mod event;
mod grant;
mod monitor;
mod ports;
mod table;

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use abi::hypercall::Number;
use abi::{DomId, Errno, Gfn};

use crate::device_tree::PrivateInterrupts;
use crate::event::Pages;
use crate::interrupt::Trigger;
use crate::shared::SharedPage;
use crate::time::Ticks;

pub use monitor::{Holdings, Monitor, Running};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static VCPU: u32 = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
    /// Whom this thread plays.
    static SEAT: RefCell<(Monitor, DomId)> = RefCell::new((Monitor::alone(), DomId::DOM0));
}

fn seat() -> (Monitor, DomId) {
    SEAT.with_borrow(Clone::clone)
}

/// Lets another thread run.
pub(crate) fn relax() {
    std::thread::yield_now();
}

/// Tells this thread from others.
pub(crate) fn vcpu() -> u32 {
    VCPU.with(|&vcpu| vcpu)
}

/// How another vCPU would start: there is none.
#[derive(Debug)]
pub(crate) enum Start {}

impl Start {
    pub(crate) fn new(_: u32, _: extern "C" fn(u32) -> !) -> Option<Start> {
        None
    }

    pub(crate) fn entry(&'static self) -> (u64, u64) {
        match *self {}
    }
}

pub(crate) fn firmware_call(_: u32, _: [u64; 3]) -> u64 {
    abi::psci::Error::NotSupported.to_register()
}

pub(crate) fn private_interrupts() -> PrivateInterrupts {
    PrivateInterrupts::default()
}

pub(crate) fn send_sgi(_: u32, _: u32) {}

/// Nanoseconds, here.
pub(crate) fn ticks() -> Ticks {
    Ticks(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn frequency() -> u64 {
    1_000_000_000
}

pub(crate) fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*bytes)
}

/// Sleeps until the deadline or an event.
pub(crate) fn wait(deadline: Option<Ticks>) {
    let (monitor, domain) = seat();
    monitor.wait(domain, deadline.map(Ticks::since_start));
}

pub(crate) fn halt() -> ! {
    std::process::exit(1)
}

pub(crate) fn enable_shared_interrupt(_: u32, _: Trigger) {}

pub(crate) fn disable_shared_interrupt(_: u32) {}

pub(crate) fn acknowledge_interrupt() -> Option<u32> {
    None
}

pub(crate) fn deactivate_interrupt(_: u32) {}

pub(crate) fn clean_to_memory(_: NonNull<u8>, _: usize) {}

/// Addresses of the host do not fit: a frame is named by its place in a list.
pub(crate) fn grantable_frame(gfn: Gfn) -> Result<u32, Errno> {
    let (monitor, domain) = seat();
    monitor.with(|state| state.domain(domain).grants.grantable(gfn))
}

pub(crate) fn grant_frame(_: u32) -> Result<SharedPage, Errno> {
    let page = SharedPage::allocate()?;
    let (monitor, domain) = seat();
    monitor.with(|state| state.domain(domain).grants.frames.push(page.clone()));
    Ok(page)
}

/// Nothing can be mapped at an address of one's choice here: a granted page is where its granter
/// has it, which is what the monitor said that its bus address is.
pub(crate) fn mapped_page(_: NonNull<u8>, bus_address: u64) -> NonNull<u8> {
    let page = std::ptr::with_exposed_provenance_mut(bus_address as usize);
    NonNull::new(page).unwrap_or(NonNull::dangling())
}

pub(crate) fn event_pages() -> Result<Pages, Errno> {
    let pages = ports::pages()?;
    let (monitor, domain) = seat();
    monitor.with(|state| state.domain(domain).events.pages = Some(pages.clone()));
    Ok(pages)
}

/// # Safety
/// As for the real one.
pub(crate) unsafe fn hypercall(number: Number, arguments: [u64; 5]) -> i64 {
    let [command, pointer, count, ..] = arguments;
    let (monitor, caller) = seat();
    let result = match number {
        // SAFETY: the caller's promise.
        Number::EventChannelOp => unsafe { monitor.event_channel_op(caller, command, pointer) },
        // SAFETY: the caller's promise.
        Number::GrantTableOp => unsafe { monitor.grant_table_op(caller, command, pointer, count) },
        Number::ConsoleIo => Ok(()),
        Number::SchedOp => {
            std::thread::yield_now();
            Ok(())
        }
        _ => Err(Errno::ENOSYS),
    };
    result.map_or_else(Errno::to_return, |()| 0)
}

/// # Safety
/// The pointer must be to a `T` that nobody else uses meanwhile.
unsafe fn argument<'a, T>(pointer: u64) -> &'a mut T {
    let pointer: *mut T = std::ptr::with_exposed_provenance_mut(pointer as usize);
    // SAFETY: the caller's promise.
    unsafe { &mut *pointer }
}
