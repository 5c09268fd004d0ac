//! Time since boot, sleeping, and the wall clock.

use alloc::collections::BTreeMap;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::{event, machine};

/// Time since this kernel started, by the virtual counter. Reading it does not trap.
pub fn now() -> Duration {
    machine::now()
}

/// Waits for this long.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now().saturating_add(duration))
}

/// Waits until [`now`] has reached `deadline`.
pub fn sleep_until(deadline: Duration) -> Sleep {
    Sleep { deadline, ticket: None }
}

/// Time since 1970-01-01 00:00 UTC, if the monitor knows it.
pub fn wall_clock() -> Option<Duration> {
    event::starting_time()?.checked_add(now())
}

/// Sleepers by deadline. The number tells apart those with the same one, and an ordered map (a
/// plain heap could not) takes out a sleeper that was dropped.
#[derive(Debug, Default)]
struct Timers {
    sleepers: BTreeMap<Ticket, Waker>,
    issued: u64,
}

type Ticket = (Duration, u64);

impl Timers {
    const fn new() -> Timers {
        Timers { sleepers: BTreeMap::new(), issued: 0 }
    }

    fn insert(&mut self, deadline: Duration, waker: Waker) -> Ticket {
        let ticket = (deadline, self.issued);
        self.issued = self.issued.wrapping_add(1);
        self.sleepers.insert(ticket, waker);
        ticket
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.sleepers.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    fn pop_expired(&mut self, now: Duration) -> Option<Waker> {
        let first = self.sleepers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

crate::vcpu_local! {
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::new());
}

/// When the next sleeper is due.
pub(crate) fn next_deadline() -> Option<Duration> {
    TIMERS.with(|timers| timers.borrow().next_deadline())
}

/// Wakes the sleepers that are due.
pub(crate) fn wake_expired() {
    let Some(deadline) = next_deadline() else { return };
    let now = now();
    if deadline > now {
        return;
    }
    while let Some(waker) = TIMERS.with(|timers| timers.borrow_mut().pop_expired(now)) {
        waker.wake();
    }
}

/// The future of [`sleep`].
#[derive(Debug)]
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep {
    deadline: Duration,
    ticket: Option<Ticket>,
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            TIMERS.with(|timers| timers.borrow_mut().sleepers.remove(&ticket));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.cancel();
        if now() >= self.deadline {
            return Poll::Ready(());
        }
        let (deadline, waker) = (self.deadline, context.waker().clone());
        self.ticket = Some(TIMERS.with(|timers| timers.borrow_mut().insert(deadline, waker)));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sleepers_expire_in_order_and_never_early(
            deadlines in prop::collection::vec(0u64..1000, 1..50),
            now in 0u64..1000,
        ) {
            let mut timers = Timers::new();
            for &deadline in &deadlines {
                timers.insert(Duration::from_nanos(deadline), Waker::noop().clone());
            }
            let mut last = Duration::ZERO;
            let mut fired = 0;
            while let Some(deadline) = timers.next_deadline() {
                if timers.pop_expired(Duration::from_nanos(now)).is_none() {
                    prop_assert!(deadline > Duration::from_nanos(now));
                    break;
                }
                prop_assert!(deadline >= last);
                last = deadline;
                fired += 1;
            }
            prop_assert_eq!(fired, deadlines.iter().filter(|&&deadline| deadline <= now).count());
        }
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let mut sleep = sleep(Duration::from_secs(1000));
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(next_deadline().is_some());
        drop(sleep);
        assert!(next_deadline().is_none());
    }

    #[test]
    fn a_sleep_takes_as_long_as_it_says() {
        let start = now();
        crate::executor::run(sleep(Duration::from_millis(20)));
        assert!(now() - start >= Duration::from_millis(20));
    }
}
