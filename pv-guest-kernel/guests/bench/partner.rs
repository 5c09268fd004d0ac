//! The partner: the other side of what takes two domains.
//!
//! It grants two pages to the domain that measures, the first of which says what to do, and leaves
//! one port open for it.

use alloc::vec::Vec;
use core::iter;
use core::sync::atomic::Ordering;

use pv_guest_kernel::abi::grant::RESERVED_ENTRIES;
use pv_guest_kernel::abi::{DomId, Errno, GrantRef};
use pv_guest_kernel::event::Channel;
use pv_guest_kernel::grant::{Access, Grant};
use pv_guest_kernel::hypercall::{event_channel, sched};
use pv_guest_kernel::println;
use pv_guest_kernel::shared::SharedPage;

use crate::inbox::Inbox;
use crate::machine::interrupt::{self, Handler};

/// The page that says what to do: the partner's first grant.
pub const ORDER: GrantRef = GrantRef(RESERVED_ENTRIES);
/// A page that nobody uses: its second.
pub const SPARE: GrantRef = GrantRef(RESERVED_ENTRIES + 1);

/// More grants of that page, which are many or none.
pub fn others(count: u32) -> impl Iterator<Item = GrantRef> {
    (SPARE.0 + 1..).map(GrantRef).take(count as usize)
}

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

/// Is `peer`'s partner until it is told to leave. `others` is how many more grants it gives.
pub async fn serve(peer: DomId, others: u32) {
    if let Err(error) = obey(peer, others) {
        println!("bench: no partner: {error}");
    }
}

fn obey(peer: DomId, count: u32) -> Result<(), Errno> {
    let (order, spare) = (SharedPage::allocate()?, SharedPage::allocate()?);
    let pages = [&order, &spare].into_iter().chain(iter::repeat_n(&spare, count as usize));
    let grants: Vec<Grant> =
        pages.map(|page| Grant::new(page, peer, Access::ReadWrite)).collect::<Result<_, _>>()?;
    let references = [ORDER, SPARE].into_iter().chain(others(count));
    if !grants.iter().map(Grant::reference).eq(references) {
        return Err(Errno::EEXIST);
    }
    let order = Order(order);
    // Last: whoever finds the port finds the grants, too.
    let channel = Channel::alloc_unbound(peer)?;
    let inbox = Inbox::of(channel.port())?;
    let handler = Handler::install();
    loop {
        let seen = interrupt::last();
        handler.sleep_past(seen);
        // Before the answer: the next event then interrupts.
        inbox.clear();
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
