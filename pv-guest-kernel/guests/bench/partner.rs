//! The partner: the other side of what takes two domains.
//!
//! It grants two pages to the domain that measures, the first of which says what to do, and leaves
//! one port open for it.

use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::grant::RESERVED_ENTRIES;
use pv_guest_kernel::abi::{DomId, Errno, GrantRef};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::hypercall::{event_channel, sched};
use pv_guest_kernel::println;
use pv_guest_kernel::shared::SharedPage;

use crate::machine::interrupt;

/// The page that says what to do: the partner's first grant.
pub const ORDER: GrantRef = GrantRef(RESERVED_ENTRIES);
/// A page that nobody uses: its second.
pub const SPARE: GrantRef = GrantRef(RESERVED_ENTRIES + 1);

/// What the partner does when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Task {
    /// Nothing.
    Sleep = 0,
    /// Answers each event with one.
    Answer = 1,
    /// Yields its CPU again and again, until the task is another one.
    Yield = 2,
    /// Ends.
    Leave = 3,
}

/// The word that says it.
#[derive(Debug)]
pub struct Order(pub SharedPage);

impl Order {
    /// Orders a task.
    pub fn give(&self, task: Task) {
        self.0.store_u32(0, task as u32, Ordering::Release);
    }

    #[inline(always)]
    fn is(&self, task: Task) -> bool {
        self.0.load_u32(0, Ordering::Acquire) == task as u32
    }
}

/// Is `peer`'s partner until it is told to leave.
pub async fn serve(peer: DomId) {
    if let Err(error) = obey(peer) {
        println!("bench: no partner: {error}");
    }
}

fn obey(peer: DomId) -> Result<(), Errno> {
    let grant = || Grant::new(&SharedPage::allocate()?, peer, Access::ReadWrite);
    let (first, second) = (grant()?, grant()?);
    if (first.reference(), second.reference()) != (ORDER, SPARE) {
        return Err(Errno::EEXIST);
    }
    let order = Order(first.page().clone());
    // Last: whoever finds the port finds the grants, too.
    let channel = Channel::alloc_unbound(peer)?;
    interrupt::watch(channel.port());
    let mut seen = 0;
    loop {
        interrupt::sleep_past(seen);
        seen = interrupt::count();
        if order.is(Task::Answer) {
            event_channel::send(channel.port())?;
        } else if order.is(Task::Leave) {
            return Ok(());
        }
        while order.is(Task::Yield) {
            sched::yield_now();
        }
    }
}
