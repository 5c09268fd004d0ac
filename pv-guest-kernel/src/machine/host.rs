//! A stand-in for the monitor under which drivers are tested on the host: event channels x

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use abi::event::{AllocUnbound, BindInterdomain, Command, PortOnly};
use abi::grant::{
    Copy, CopyEnd, CopyFlags, ENTRIES_PER_FRAME, Entry, EntryFlags, QuerySize, Status,
};
use abi::hypercall::Number;
use abi::shared_info::{PortBit, SharedInfo, VcpuInfo};
use abi::{Errno, Gfn, GrantRef, Port};
use core::mem::offset_of;

use crate::device_tree::PrivateInterrupts;
use crate::event::Pages;
use crate::interrupt::Trigger;
use crate::shared::SharedPage;

/// Frames to which the grant table may grow.
const GRANT_FRAMES: u32 = 4;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static VCPU: u32 = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
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

pub(crate) fn now() -> Duration {
    START.elapsed()
}

pub(crate) fn since_counter_zero() -> Duration {
    now()
}

/// Sleeps until the deadline. There is no interrupt that could come before.
pub(crate) fn wait(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => std::thread::sleep(deadline.saturating_sub(now())),
        None => panic!("all tasks wait, and nothing can wake them"),
    }
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
    GRANTABLE.with_borrow_mut(|frames| {
        let known = frames.iter().position(|&frame| frame == gfn);
        let index = known.unwrap_or_else(|| {
            frames.push(gfn);
            frames.len() - 1
        });
        Ok(u32::try_from(index).unwrap_or(u32::MAX))
    })
}

pub(crate) fn grant_frame(_: u32) -> Result<SharedPage, Errno> {
    let page = SharedPage::allocate()?;
    GRANT_TABLE.with_borrow_mut(|table| table.push(page.clone()));
    Ok(page)
}

thread_local! {
    static GRANTED_FRAMES: Cell<u32> = const { Cell::new(1) };
    static GRANTABLE: RefCell<Vec<Gfn>> = const { RefCell::new(Vec::new()) };
    static GRANT_TABLE: RefCell<Vec<SharedPage>> = const { RefCell::new(Vec::new()) };
    static PORTS: RefCell<Vec<PortState>> = const { RefCell::new(Vec::new()) };
    static ANNOUNCED: RefCell<Option<(SharedPage, SharedPage)>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, PartialEq)]
enum PortState {
    Closed,
    Unbound,
    Bound(Port),
}

pub(crate) fn event_pages() -> Result<Pages, Errno> {
    let (shared_info, vcpu_info) = (SharedPage::allocate()?, SharedPage::allocate()?);
    ANNOUNCED.set(Some((shared_info.clone(), vcpu_info.clone())));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    shared_info.store_u32(offset_of!(SharedInfo, wallclock_seconds), seconds, Ordering::Relaxed);
    Ok(Pages { shared_info, vcpu_info })
}

/// # Safety
/// As for the real one.
pub(crate) unsafe fn hypercall(number: Number, arguments: [u64; 5]) -> i64 {
    let [command, pointer, ..] = arguments;
    let result = match number {
        // SAFETY: the caller's promise.
        Number::EventChannelOp => unsafe { event_channel_op(command, pointer) },
        // SAFETY: the caller's promise.
        Number::GrantTableOp => unsafe { grant_table_op(command, pointer, arguments[2]) },
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
/// The argument must be valid for the command.
unsafe fn grant_table_op(command: u64, pointer: u64, count: u64) -> Result<(), Errno> {
    use abi::grant::{Command, SetupTable};
    match Command::from_raw(command) {
        Some(Command::QuerySize) => {
            // SAFETY: the caller's promise.
            let size = unsafe { argument::<QuerySize>(pointer) };
            (size.nr_frames, size.max_nr_frames) = (GRANTED_FRAMES.get(), GRANT_FRAMES);
            Ok(())
        }
        Some(Command::SetupTable) => {
            // SAFETY: the caller's promise.
            GRANTED_FRAMES.set(unsafe { argument::<SetupTable>(pointer) }.nr_frames);
            Ok(())
        }
        Some(Command::Copy) => {
            for index in 0..count {
                let element = pointer + index * size_of::<Copy>() as u64;
                // SAFETY: the caller's promise.
                unsafe { copy(argument::<Copy>(element)) };
            }
            Ok(())
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// # Safety
/// Pages of this program that it names must exist.
unsafe fn copy(element: &mut Copy) {
    let flags = CopyFlags::from_bits_retain(element.flags);
    let source = place(&element.source, flags.contains(CopyFlags::SOURCE_GREF), false);
    let dest = place(&element.dest, flags.contains(CopyFlags::DEST_GREF), true);
    let length = usize::from(element.len);
    let within = |end: &CopyEnd| usize::from(end.offset) + length <= abi::PAGE_SIZE;
    let result = match (source, dest) {
        (Ok(source), Ok(dest)) if within(&element.source) && within(&element.dest) => {
            // SAFETY: the caller's promise; both stay within their pages.
            unsafe { std::ptr::copy(source, dest, length) };
            Status::Okay
        }
        (Err(status), _) | (_, Err(status)) => status,
        _ => Status::BadCopyArg,
    };
    element.status = result.raw();
}

/// Where an end of a copy is. All domains' grants are in the one table.
fn place(end: &CopyEnd, is_grant: bool, write: bool) -> Result<*mut u8, Status> {
    let gfn = if is_grant { granted(GrantRef(end.frame as u32), write)? } else { Gfn(end.frame) };
    let page = gfn.address().ok_or(Status::BadPage)?;
    let address = page as usize + usize::from(end.offset);
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

fn granted(reference: GrantRef, write: bool) -> Result<Gfn, Status> {
    let (index, entry) = (reference.0 / ENTRIES_PER_FRAME, reference.0 % ENTRIES_PER_FRAME);
    let word = GRANT_TABLE.with_borrow(|table| {
        let page = table.get(index as usize).ok_or(Status::BadGrantRef)?;
        Ok(page.load_u64(entry as usize * size_of::<Entry>(), Ordering::Relaxed))
    })?;
    let flags = EntryFlags::from_bits_retain(word as u16);
    if !flags.contains(EntryFlags::PERMIT_ACCESS) {
        return Err(Status::BadGrantRef);
    }
    if write && flags.contains(EntryFlags::READONLY) {
        return Err(Status::PermissionDenied);
    }
    GRANTABLE
        .with_borrow(|frames| frames.get((word >> 32) as usize).copied())
        .ok_or(Status::BadPage)
}

/// # Safety
/// The argument must be valid for the command.
unsafe fn event_channel_op(command: u64, pointer: u64) -> Result<(), Errno> {
    match Command::from_raw(command) {
        Some(Command::AllocUnbound) => {
            // SAFETY: the caller's promise.
            let allocation = unsafe { argument::<AllocUnbound>(pointer) };
            allocation.port = new_port(PortState::Unbound);
        }
        Some(Command::BindInterdomain) => {
            // SAFETY: the caller's promise.
            let binding = unsafe { argument::<BindInterdomain>(pointer) };
            if state_of(binding.remote_port) != PortState::Unbound {
                return Err(Errno::EINVAL);
            }
            binding.local_port = new_port(PortState::Bound(binding.remote_port));
            set_state(binding.remote_port, PortState::Bound(binding.local_port));
        }
        Some(Command::Send) => {
            // SAFETY: the caller's promise.
            if let PortState::Bound(peer) = state_of(unsafe { argument::<PortOnly>(pointer) }.port)
            {
                announce(peer);
            }
        }
        Some(Command::Close) => {
            // SAFETY: the caller's promise.
            let port = unsafe { argument::<PortOnly>(pointer) }.port;
            if let PortState::Bound(peer) = state_of(port) {
                set_state(peer, PortState::Unbound);
            }
            set_state(port, PortState::Closed);
            clear_pending(port);
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}

/// # Safety
/// The pointer must be to a `T` that nobody else uses meanwhile.
unsafe fn argument<'a, T>(pointer: u64) -> &'a mut T {
    let pointer: *mut T = std::ptr::with_exposed_provenance_mut(pointer as usize);
    // SAFETY: the caller's promise.
    unsafe { &mut *pointer }
}

/// Ports count from 1, as the monitor's.
fn new_port(state: PortState) -> Port {
    PORTS.with_borrow_mut(|ports| {
        let free = ports.iter().position(|&state| state == PortState::Closed);
        let index = free.unwrap_or(ports.len());
        if index == ports.len() {
            ports.push(state);
        }
        ports[index] = state;
        Port(index as u32 + 1)
    })
}

fn state_of(port: Port) -> PortState {
    let index = (port.0 as usize).wrapping_sub(1);
    PORTS.with_borrow(|ports| ports.get(index).copied().unwrap_or(PortState::Closed))
}

fn set_state(port: Port, state: PortState) {
    PORTS.with_borrow_mut(|ports| ports[port.0 as usize - 1] = state);
}

/// Whoever gets the port next must not get its events.
fn clear_pending(port: Port) {
    let Some(place) = PortBit::of(port) else { return };
    let offset = offset_of!(SharedInfo, pending) + place.word * 8;
    ANNOUNCED.with_borrow(|pages| {
        if let Some((shared_info, _)) = pages {
            shared_info.fetch_and_u64(offset, !place.mask, Ordering::Relaxed);
        }
    });
}

/// Sets a port pending, as the monitor does for the 2-level ABI.
fn announce(port: Port) {
    let Some(place) = PortBit::of(port) else { return };
    ANNOUNCED.with_borrow(|pages| {
        let Some((shared_info, vcpu_info)) = pages else { return };
        let set = |page: &SharedPage, offset, mask| {
            let word = page.load_u64(offset, Ordering::Relaxed);
            page.store_u64(offset, word | mask, Ordering::Relaxed);
        };
        set(shared_info, offset_of!(SharedInfo, pending) + place.word * 8, place.mask);
        set(vcpu_info, offset_of!(VcpuInfo, pending_selector), 1 << place.word);
        vcpu_info.store_u8(offset_of!(VcpuInfo, upcall_pending), 1, Ordering::Relaxed);
    });
}
