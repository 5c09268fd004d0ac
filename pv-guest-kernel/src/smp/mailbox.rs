//! What a vCPU has been given to do, and whether it must be woken for it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Vcpu;
use crate::local::VcpuShared;

/// Something for a vCPU to do.
pub(super) enum Job {
    /// To run a closure.
    Run(Box<dyn FnOnce(&Vcpu) + Send>),
    /// To go off.
    Stop,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Run(_) => "Run",
            Job::Stop => "Stop",
        })
    }
}

/// A queue with many writers and one reader, who sleeps when it is empty.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    queue: VcpuShared<VecDeque<T>>,
    /// Whether the reader sleeps, or is about to.
    asleep: AtomicBool,
}

impl<T> Mailbox<T> {
    pub(super) const fn new() -> Self {
        Mailbox { queue: VcpuShared::new(VecDeque::new()), asleep: AtomicBool::new(false) }
    }

    /// Adds to the queue. Returns whether the reader must be woken.
    #[must_use = "the reader may sleep"]
    pub(super) fn push(&self, value: T) -> bool {
        self.queue.with(|queue| queue.push_back(value));
        // The lock has made the value visible before this is read; the reader does it the other
        // way round. One of the two sees what the other wrote.
        core::sync::atomic::fence(Ordering::SeqCst);
        self.asleep.swap(false, Ordering::SeqCst)
    }

    /// Takes the oldest. For the reader.
    pub(super) fn pop(&self) -> Option<T> {
        self.queue.with(VecDeque::pop_front).flatten()
    }

    /// Calls `sleep`, which returns when the reader is woken, unless there is something. For the
    /// reader.
    pub(super) fn sleep_if_empty(&self, sleep: impl FnOnce()) {
        self.asleep.store(true, Ordering::SeqCst);
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.queue.with(|queue| queue.is_empty()) == Some(true) {
            sleep();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_a_sleeping_reader_is_woken() {
        let mailbox = Mailbox::new();
        assert!(!mailbox.push(1), "it is awake");
        mailbox.sleep_if_empty(|| panic!("there is something"));
        assert_eq!(mailbox.pop(), Some(1));
        let mut slept = false;
        mailbox.sleep_if_empty(|| {
            assert!(mailbox.push(2));
            assert!(!mailbox.push(3), "it was woken already");
            slept = true;
        });
        assert!(slept);
        assert_eq!((mailbox.pop(), mailbox.pop(), mailbox.pop()), (Some(2), Some(3), None));
    }

    /// The reader waits for ever if a wake-up is lost.
    #[test]
    fn no_wake_up_is_lost() {
        const COUNT: u32 = 20_000;
        let mailbox = Arc::new(Mailbox::new());
        let (wake, woken) = mpsc::channel();
        let writer = std::thread::spawn({
            let mailbox = mailbox.clone();
            move || {
                for value in 0..COUNT {
                    if mailbox.push(value) {
                        wake.send(()).unwrap();
                    }
                }
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            match mailbox.pop() {
                Some(value) => {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                None => mailbox.sleep_if_empty(|| woken.recv().unwrap()),
            }
        }
        writer.join().unwrap();
    }
}
