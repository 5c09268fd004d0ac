//! The monitor's locks and their order.
//!
//! A CPU takes locks in the order of `Level` only, each level once; debug builds check it. No
//! lock is held while its holder waits for anything else. Locks are fair, so that no CPU starves:
//! each comer draws a ticket and waits until it is served. Both numbers are in one word, so that
//! taking a free lock is one atomic step and giving it back is a store: every trap pays for both.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

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

/// A value that one CPU at a time may touch. The tickets come first, so that they and what comes
/// first in the value are reached from one base address.
#[repr(C)]
pub struct Lock<T> {
    tickets: Tickets,
    level: Level,
    value: UnsafeCell<T>,
}

// SAFETY: whoever reaches the value holds the lock, hence is alone.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The right to touch it, until dropped.
#[derive(Debug)]
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    /// A lock of that level around a value.
    pub const fn new(level: Level, value: T) -> Lock<T> {
        Lock { tickets: Tickets::new(), level, value: UnsafeCell::new(value) }
    }

    /// Waits for the lock. Debug builds panic when the order is violated.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.queue().unwrap_or_else(Waiter::wait)
    }

    /// Takes the lock if it is free, otherwise a place in its queue: for those on a short way,
    /// who would rather wait elsewhere.
    #[inline(always)]
    pub fn queue(&self) -> Result<Guard<'_, T>, Waiter<'_, T>> {
        note_taken(self.level);
        match self.tickets.draw() {
            None => Ok(Guard { lock: self }),
            Some(ticket) => Err(Waiter { lock: self, ticket }),
        }
    }
}

/// A place in the queue of a lock. It must be waited for: nobody else is served before.
#[derive(Debug)]
#[must_use = "those who come later wait for this one"]
pub struct Waiter<'a, T> {
    lock: &'a Lock<T>,
    ticket: u16,
}

impl<'a, T> Waiter<'a, T> {
    /// Waits for the lock.
    #[cold]
    #[inline(never)]
    pub fn wait(self) -> Guard<'a, T> {
        self.lock.tickets.wait_for(self.ticket);
        Guard { lock: self.lock }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("level", &self.level).finish_non_exhaustive()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its maker holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and there is one guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tickets.serve_next();
        note_released(self.lock.level);
    }
}

/// The next ticket to be drawn in the upper half, the one that is served in the lower half.
#[repr(C, align(4))]
struct Tickets(UnsafeCell<[AtomicU16; 2]>);

const SERVED: usize = if cfg!(target_endian = "little") { 0 } else { 1 };
const DRAWN_SHIFT: u32 = 16;

impl Tickets {
    const fn new() -> Tickets {
        Tickets(UnsafeCell::new([AtomicU16::new(0), AtomicU16::new(0)]))
    }

    /// Both numbers at once.
    #[inline(always)]
    fn both(&self) -> &AtomicU32 {
        // SAFETY: the pair is aligned as a word, and all accesses to it are atomic.
        unsafe { AtomicU32::from_ptr(self.0.get().cast()) }
    }

    /// The number that is served.
    #[inline(always)]
    fn served(&self) -> &AtomicU16 {
        // SAFETY: all accesses are atomic.
        unsafe { &(*self.0.get())[SERVED] }
    }

    /// Draws a ticket. `None` if it is served at once.
    #[inline(always)]
    fn draw(&self) -> Option<u16> {
        let before = self.both().fetch_add(1 << DRAWN_SHIFT, Ordering::Acquire);
        let ticket = (before >> DRAWN_SHIFT) as u16;
        (before as u16 != ticket).then_some(ticket)
    }

    fn wait_for(&self, ticket: u16) {
        while self.served().load(Ordering::Acquire) != ticket {
            core::hint::spin_loop();
        }
    }

    #[inline(always)]
    fn serve_next(&self) {
        // Only the holder writes this half.
        let next = self.served().load(Ordering::Relaxed).wrapping_add(1);
        self.served().store(next, Ordering::Release);
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
        assert!(lock.tickets.draw().is_some(), "the holder has it");
        drop(held);
    }

    #[test]
    fn threads_take_turns() {
        let lock = Lock::new(Level::Monitor, 0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 200_000);
    }
}
