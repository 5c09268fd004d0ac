//! Time since boot, sleeping, and the wall clock.

use alloc::collections::BTreeMap;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::{event, machine};

const NANOSECONDS: u64 = 1_000_000_000;

/// Time since this kernel started, by the virtual counter. Reading it does not trap.
pub fn now() -> Duration {
    machine::ticks().since_start()
}

/// A time as the counter counts it: ticks since this kernel started. Timers are kept so, since they
/// are compared and armed more often than they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(pub(crate) u64);

impl Ticks {
    /// The first at which [`now`] has reached `time`: a sleeper never finds that it woke too early.
    pub(crate) fn until(time: Duration) -> Ticks {
        let frequency = machine::frequency();
        let part = u64::from(time.subsec_nanos()).saturating_mul(frequency).div_ceil(NANOSECONDS);
        Ticks(time.as_secs().saturating_mul(frequency).saturating_add(part))
    }

    pub(crate) fn since_start(self) -> Duration {
        let frequency = machine::frequency().max(1);
        let rest = self.0 % frequency * NANOSECONDS / frequency;
        // Less than a second's nanoseconds.
        Duration::new(self.0 / frequency, rest as u32)
    }
}

/// Waits for this long.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now().saturating_add(duration))
}

/// Waits until [`now`] has reached `deadline`.
pub fn sleep_until(deadline: Duration) -> Sleep {
    Sleep { deadline: Ticks::until(deadline), ticket: None }
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

type Ticket = (Ticks, u64);

impl Timers {
    const fn new() -> Timers {
        Timers { sleepers: BTreeMap::new(), issued: 0 }
    }

    fn insert(&mut self, deadline: Ticks, waker: Waker) -> Ticket {
        let ticket = (deadline, self.issued);
        self.issued = self.issued.wrapping_add(1);
        self.sleepers.insert(ticket, waker);
        ticket
    }

    fn next_deadline(&self) -> Option<Ticks> {
        self.sleepers.first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    fn pop_expired(&mut self, now: Ticks) -> Option<Waker> {
        let first = self.sleepers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

crate::vcpu_local! {
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::new());
}

/// When the next sleeper is due.
pub(crate) fn next_deadline() -> Option<Ticks> {
    TIMERS.with(|timers| timers.borrow().next_deadline())
}

/// Wakes the sleepers that are due.
pub(crate) fn wake_expired() {
    let Some(deadline) = next_deadline() else { return };
    let now = machine::ticks();
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
    deadline: Ticks,
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
        if machine::ticks() >= self.deadline {
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
                timers.insert(Ticks(deadline), Waker::noop().clone());
            }
            let mut last = Ticks(0);
            let mut fired = 0;
            while let Some(deadline) = timers.next_deadline() {
                if timers.pop_expired(Ticks(now)).is_none() {
                    prop_assert!(deadline > Ticks(now));
                    break;
                }
                prop_assert!(deadline >= last);
                last = deadline;
                fired += 1;
            }
            prop_assert_eq!(fired, deadlines.iter().filter(|&&deadline| deadline <= now).count());
        }

        #[test]
        fn a_time_in_ticks_is_not_before_it(nanoseconds: u64) {
            let time = Duration::from_nanos(nanoseconds);
            prop_assert!(Ticks::until(time).since_start() >= time);
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
