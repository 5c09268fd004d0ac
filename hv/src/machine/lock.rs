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
pub struct Lock<T, W = Tickets> {
    tickets: W,
    level: Level,
    value: UnsafeCell<T>,
}

// SAFETY: whoever reaches the value holds the lock, hence is alone.
unsafe impl<T: Send, W: Sync> Sync for Lock<T, W> {}

/// The right to touch it, until dropped.
#[derive(Debug)]
pub struct Guard<'a, T, W: TicketWord = Tickets> {
    lock: &'a Lock<T, W>,
}

impl<T> Lock<T> {
    /// A lock of that level around a value.
    pub const fn new(level: Level, value: T) -> Lock<T> {
        Lock { tickets: Tickets::new(), level, value: UnsafeCell::new(value) }
    }
}

impl<T, W: TicketWord> Lock<T, W> {
    /// Waits for the lock. Debug builds panic when the order is violated.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_, T, W> {
        self.queue().unwrap_or_else(Waiter::wait)
    }

    /// The right that [`Guard::keep`] kept.
    ///
    /// # Safety
    /// This CPU must have kept it, and not asked for it since.
    #[inline(always)]
    pub unsafe fn kept(&self) -> Guard<'_, T, W> {
        Guard { lock: self }
    }

    /// Takes the lock if it is free, otherwise a place in its queue: for those on a short way,
    /// who would rather wait elsewhere.
    #[inline(always)]
    pub fn queue(&self) -> Result<Guard<'_, T, W>, Waiter<'_, T, W>> {
        note_taken(self.level);
        let (ticket, served) = self.tickets.draw();
        if ticket == served { Ok(Guard { lock: self }) } else { Err(Waiter { lock: self, ticket }) }
    }
}

impl<T, W: TicketWord> Guard<'_, T, W> {
    /// Keeps the lock beyond this guard's life, for [`Lock::kept`] on the same CPU.
    #[inline(always)]
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

/// A place in the queue of a lock. It must be waited for: nobody else is served before.
#[derive(Debug)]
#[must_use = "those who come later wait for this one"]
pub struct Waiter<'a, T, W: TicketWord = Tickets> {
    lock: &'a Lock<T, W>,
    ticket: u16,
}

impl<'a, T, W: TicketWord> Waiter<'a, T, W> {
    /// Waits for the lock.
    #[cold]
    #[inline(never)]
    pub fn wait(self) -> Guard<'a, T, W> {
        while self.lock.tickets.served() != self.ticket {
            W::pause();
        }
        Guard { lock: self.lock }
    }
}

impl<T, W> fmt::Debug for Lock<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("level", &self.level).finish_non_exhaustive()
    }
}

impl<T, W: TicketWord> Deref for Guard<'_, T, W> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its maker holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, W: TicketWord> DerefMut for Guard<'_, T, W> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and there is one guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, W: TicketWord> Drop for Guard<'_, T, W> {
    #[inline]
    fn drop(&mut self) {
        self.lock.tickets.serve_next();
        note_released(self.lock.level);
    }
}

/// A lock's two numbers: the next ticket to be drawn, and the one that is served. A trait, so that
/// a model checker's atomics can take the place of the machine's.
pub trait TicketWord {
    /// Draws a ticket, and reads which is served (acquire).
    fn draw(&self) -> (u16, u16);
    /// Which ticket is served (acquire).
    fn served(&self) -> u16;
    /// Serves the next one (release). Only the holder does.
    fn serve_next(&self);
    /// Passes the time of one who waits.
    fn pause();
}

/// The next ticket to be drawn in the upper half, the one that is served in the lower half.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct Tickets(UnsafeCell<[AtomicU16; 2]>);

// SAFETY: all accesses are atomic.
unsafe impl Sync for Tickets {}

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

    /// The half that is served.
    #[inline(always)]
    fn lower(&self) -> &AtomicU16 {
        // SAFETY: all accesses are atomic.
        unsafe { &(*self.0.get())[SERVED] }
    }
}

impl TicketWord for Tickets {
    #[inline(always)]
    fn draw(&self) -> (u16, u16) {
        let before = self.both().fetch_add(1 << DRAWN_SHIFT, Ordering::Acquire);
        ((before >> DRAWN_SHIFT) as u16, before as u16)
    }

    #[inline(always)]
    fn served(&self) -> u16 {
        self.lower().load(Ordering::Acquire)
    }

    #[inline(always)]
    fn serve_next(&self) {
        // Only the holder writes this half.
        let next = self.lower().load(Ordering::Relaxed).wrapping_add(1);
        self.lower().store(next, Ordering::Release);
    }

    /// By YIELD: what the compiler has for it is an ISB, which does not tell a machine that runs
    /// its CPUs in turn that this one has nothing to do before the lock's holder has run. On the
    /// host threads may be more than CPUs, and the holder's turn would come last.
    #[inline(always)]
    fn pause() {
        #[cfg(target_os = "none")]
        // SAFETY: a hint.
        unsafe {
            core::arch::asm!("yield", options(nomem, nostack, preserves_flags))
        }
        #[cfg(test)]
        std::thread::yield_now();
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
    mod model;

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
        let (ticket, served) = lock.tickets.draw();
        assert_ne!(ticket, served, "the holder has it");
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
