//! Waiting for something that another task of this program does.

use alloc::vec::Vec;
use core::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};

/// Tasks that wait for a condition on state which they share. Whoever changes the state notifies.
#[derive(Debug, Default)]
pub struct Condition {
    waiting: RefCell<Vec<Waker>>,
}

impl Condition {
    /// Lets all who wait check again.
    pub fn notify(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `check` gives something.
    pub async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| {
            if let Some(value) = check() {
                return Poll::Ready(value);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Keeps a waker unless the same one is there already, which costs less.
pub(crate) fn remember(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;
    use core::cell::Cell;

    use crate::executor;

    use super::*;

    #[test]
    fn all_who_wait_see_the_change() {
        executor::run(async {
            let state = Rc::new((Cell::new(0), Condition::default()));
            let waiters: Vec<_> = (1..4)
                .map(|goal| {
                    let state = state.clone();
                    executor::spawn(async move {
                        state.1.until(|| (state.0.get() >= goal).then_some(goal)).await
                    })
                })
                .collect();
            for value in 1..4 {
                executor::yield_now().await;
                state.0.set(value);
                state.1.notify();
            }
            let mut sum = 0;
            for waiter in waiters {
                sum += waiter.await;
            }
            assert_eq!(sum, 6);
        });
    }
}
