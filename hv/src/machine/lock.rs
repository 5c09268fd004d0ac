//! The monitor's locks and their order.
//!
//! A CPU takes locks in the order of `Level` only, each level once; debug builds check it. No
//! lock is held while its holder waits for anything else. Fair (ticket) locks, so that no CPU
//! starves.

use core::ops::{Deref, DerefMut};

use spin::mutex::{TicketMutex, TicketMutexGuard};

use super::percpu;

/// The locks that there are, first to be taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All of the allocator's state.
    Monitor,
    /// The physical interrupt controller's distributor.
    Interrupts,
    /// UART and log: taken anywhere.
    Console,
}

/// A value that one CPU at a time may touch.
#[derive(Debug)]
pub struct Lock<T> {
    level: Level,
    inner: TicketMutex<T>,
}

/// The right to touch it, until dropped.
#[derive(Debug)]
pub struct Guard<'a, T> {
    level: Level,
    inner: TicketMutexGuard<'a, T>,
}

impl<T> Lock<T> {
    /// A lock of that level around a value.
    pub const fn new(level: Level, value: T) -> Lock<T> {
        Lock { level, inner: TicketMutex::new(value) }
    }

    /// Waits for the lock. Debug builds panic when the order is violated.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        note_taken(self.level);
        Guard { level: self.level, inner: self.inner.lock() }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        note_taken(self.level);
        Some(Guard { level: self.level, inner })
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        note_released(self.level);
    }
}

#[inline(always)]
fn note_taken(level: Level) {
    if cfg!(debug_assertions) {
        percpu::with_this(|block| {
            let held = block.held_locks.get();
            assert!(may_take(held, level), "{level:?} lock taken while holding {held:#05b}");
            block.held_locks.set(held | bit(level));
        });
    }
}

#[inline(always)]
fn note_released(level: Level) {
    if cfg!(debug_assertions) {
        percpu::with_this(|block| block.held_locks.set(block.held_locks.get() & !bit(level)));
    }
}

/// Whether a CPU that holds these levels may take that one.
const fn may_take(held: u8, level: Level) -> bool {
    held < bit(level)
}

const fn bit(level: Level) -> u8 {
    1 << level as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_upwards_and_once() {
        let (monitor, console) = (bit(Level::Monitor), bit(Level::Console));
        assert!(may_take(0, Level::Monitor));
        assert!(may_take(monitor, Level::Interrupts));
        assert!(may_take(monitor, Level::Console));
        assert!(!may_take(monitor, Level::Monitor));
        assert!(!may_take(console, Level::Interrupts));
        assert!(!may_take(console | monitor, Level::Monitor));
    }

    #[test]
    fn the_value_is_reached_and_released() {
        let lock = Lock::new(Level::Monitor, 1);
        *lock.lock() += 1;
        let held = lock.lock();
        assert_eq!(*held, 2);
        assert!(lock.try_lock().is_none());
        drop(held);
        assert!(lock.try_lock().is_some());
    }
}
