//! Runs tasks: between them it collects events, when none is ready the vCPU sleeps.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use async_task::Runnable;

pub use async_task::Task;

use crate::{event, interrupt, local, smp, time};

/// What [`crate::guest_main!`] hands to the kernel.
pub type MainFuture = Pin<Box<dyn Future<Output = ()>>>;

crate::vcpu_local! {
    /// Tasks that can go on, in the order in which they were woken.
    static READY: RefCell<Vec<Runnable>> = RefCell::new(Vec::new());
}

/// Used by [`crate::guest_main!`].
pub fn main_future(main: impl Future<Output = ()> + 'static) -> MainFuture {
    Box::pin(main)
}

/// Starts a task. Dropping the handle cancels it; [`Task::detach`] lets it run on its own.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let (runnable, task) = new_task(future);
    runnable.schedule();
    task
}

/// A task runs and ends on vCPU 0, whoever wakes it.
fn make_ready(runnable: Runnable) {
    if !local::at_home() {
        return smp::push(runnable);
    }
    READY.with(|ready| ready.borrow_mut().push(runnable));
}

#[cfg(target_os = "none")]
fn new_task<F>(future: F) -> (Runnable, Task<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    // SAFETY: the future may be non-Send, but it is run and dropped on vCPU 0 alone: `make_ready`
    // brings it there, whoever wakes it; it is 'static; the schedule function captures nothing.
    unsafe { async_task::spawn_unchecked(future, make_ready) }
}

#[cfg(not(target_os = "none"))]
fn new_task<F>(future: F) -> (Runnable, Task<F::Output>)
where
    F: Future + 'static,
    F::Output: 'static,
{
    async_task::spawn_local(future, make_ready)
}

/// Lets the other ready tasks run first.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context: &mut Context<'_>| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Runs `main`, and what it spawns, until `main` is done. Tasks that are left are dropped if they are
/// ready, and stay where they are if they wait.
///
/// On the host this is how a test drives its tasks.
pub fn run<F>(main: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    let mut main = core::pin::pin!(spawn(main));
    let waker = Waker::noop();
    let mut round = Vec::new();
    loop {
        // What these wake waits for the next round, after a look at events.
        READY.with(|ready| core::mem::swap(&mut *ready.borrow_mut(), &mut round));
        for runnable in round.drain(..) {
            runnable.run();
        }
        if main.is_finished()
            && let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(waker))
        {
            // A test's thread ends now, and with it what they use.
            drop(READY.with(RefCell::take));
            return output;
        }
        collect_wakeups();
        if READY.with(|ready| ready.borrow().is_empty()) {
            smp::wait(time::next_deadline());
            collect_wakeups();
        }
    }
}

fn collect_wakeups() {
    smp::collect(make_ready);
    interrupt::acknowledge_all();
    event::dispatch();
    time::wake_expired();
}
