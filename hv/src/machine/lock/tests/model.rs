//! The lock with the model checker's atomics in place of the machine's: loom runs each test in
//! every order in which threads, and what they see of memory, can interleave.

use abi::{DomId, VcpuId};
use core::cell::UnsafeCell;
use loom::cell::UnsafeCell as WatchedUnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::super::{Level, Lock, TicketWord};
use crate::allocator::scheduler::{CpuSet, Scheduler};
use crate::types::{CpuId, Ticks, VcpuKey};

/// Tickets as the machine has them. Loom knows no access to half a word: a store to the lower half
/// is a change of the word here that leaves the upper half alone.
struct ModelTickets(AtomicU32);

const LOWER: u32 = 0xFFFF;

impl TicketWord for ModelTickets {
    fn draw(&self) -> (u16, u16) {
        let before = self.0.fetch_add(LOWER + 1, Ordering::Acquire);
        ((before >> 16) as u16, before as u16)
    }

    fn served(&self) -> u16 {
        self.0.load(Ordering::Acquire) as u16
    }

    fn serve_next(&self) {
        let next = (self.0.load(Ordering::Relaxed) as u16).wrapping_add(1);
        let store = |word| Some(word & !LOWER | u32::from(next));
        self.0.fetch_update(Ordering::Release, Ordering::Relaxed, store).expect("it always does");
    }

    fn pause() {
        thread::yield_now();
    }
}

fn lock<T>(first_ticket: u16, value: T) -> Arc<Lock<T, ModelTickets>> {
    let tickets = AtomicU32::new(u32::from(first_ticket) << 16 | u32::from(first_ticket));
    let value = UnsafeCell::new(value);
    Arc::new(Lock { tickets: ModelTickets(tickets), level: Level::Monitor, value })
}

/// Two threads change a value, which loom watches: it fails if both are at it at once, or if one
/// does not see what the other wrote.
fn both_count(first_ticket: u16) {
    loom::model(move || {
        let lock = lock(first_ticket, WatchedUnsafeCell::new(0));
        let count = |lock: &Lock<WatchedUnsafeCell<u32>, ModelTickets>| {
            // SAFETY: whoever holds the lock is alone, which is what loom checks here.
            lock.lock().with_mut(|value| unsafe { *value += 1 });
        };
        let other = thread::spawn({
            let lock = Arc::clone(&lock);
            move || count(&lock)
        });
        count(&lock);
        other.join().unwrap();
        // SAFETY: as above.
        assert_eq!(lock.lock().with(|value| unsafe { *value }), 2);
    });
}

#[test]
fn the_holder_is_alone_and_sees_all_that_was_written() {
    both_count(0);
}

#[test]
fn tickets_wrap() {
    both_count(u16::MAX);
}

/// Who draws a ticket and waits for it elsewhere, as short ways do, is served in turn too.
#[test]
fn a_place_in_the_queue_is_kept() {
    loom::model(|| {
        let lock = lock(0, WatchedUnsafeCell::new(0));
        let other = thread::spawn({
            let lock = Arc::clone(&lock);
            move || match lock.queue() {
                // SAFETY: whoever holds the lock is alone.
                Ok(guard) => guard.with_mut(|value| unsafe { *value += 1 }),
                // SAFETY: as above.
                Err(waiter) => waiter.wait().with_mut(|value| unsafe { *value += 1 }),
            }
        });
        // SAFETY: as above.
        lock.lock().with_mut(|value| unsafe { *value += 1 });
        other.join().unwrap();
    });
}

/// Who keeps the lock beyond its guard's life, as a handler does that gives up its CPU, is alone
/// until it drops the next guard.
#[test]
fn a_lock_that_is_kept_is_held() {
    loom::model(|| {
        let lock = lock(0, WatchedUnsafeCell::new(0));
        let other = thread::spawn({
            let lock = Arc::clone(&lock);
            // SAFETY: whoever holds the lock is alone.
            move || lock.lock().with_mut(|value| unsafe { *value += 1 })
        });
        let guard = lock.lock();
        // SAFETY: as above.
        let before = guard.with(|value| unsafe { *value });
        guard.keep();
        // SAFETY: it was kept just now.
        let guard = unsafe { lock.kept() };
        // SAFETY: whoever holds the lock is alone.
        assert_eq!(guard.with(|value| unsafe { *value }), before);
        drop(guard);
        other.join().unwrap();
    });
}

/// A vCPU that may run on two CPUs, with its registers where its last CPU left them.
struct World {
    scheduler: Lock<Box<Scheduler>, ModelTickets>,
    registers: WatchedUnsafeCell<u32>,
}

const MOVED: VcpuKey = VcpuKey { domain: DomId(0), vcpu: VcpuId(0) };

impl World {
    /// The vCPU is on CPU 0 and is to move to CPU 1.
    fn new() -> Arc<World> {
        // Too large for the stacks that loom gives to its threads.
        let scheduler = std::thread::spawn(|| {
            let mut scheduler = Box::new(Scheduler::new());
            for cpu in [CpuId(0), CpuId(1)] {
                scheduler.start_cpu(cpu, Ticks(80));
            }
            scheduler.add_domain(MOVED.domain, 1, Ticks(0));
            scheduler.start(MOVED, Ticks(0)).expect("it is on no CPU");
            assert_eq!(scheduler.wake(MOVED, Ticks(0)), CpuSet::only(CpuId(0)));
            assert_eq!(scheduler.pick(CpuId(0), Ticks(0)).run, Some(MOVED));
            let kick = scheduler.set_affinity(MOVED, CpuSet::only(CpuId(1)), Ticks(1));
            assert_eq!(kick, Ok(CpuSet::only(CpuId(0))));
            scheduler
        });
        let scheduler = UnsafeCell::new(scheduler.join().expect("it is made"));
        let tickets = ModelTickets(AtomicU32::new(0));
        let scheduler = Lock { tickets, level: Level::Monitor, value: scheduler };
        Arc::new(World { scheduler, registers: WatchedUnsafeCell::new(1) })
    }

    /// What a CPU does when it decides anew: as `reschedule` does, it saves the registers of the
    /// vCPU that it ran, and loads those of the next, before it lets go of the lock. Returns what
    /// it runs then.
    fn reschedule(&self, cpu: CpuId, runs: bool) -> bool {
        let mut scheduler = self.scheduler.lock();
        let next = scheduler.pick(cpu, Ticks(2)).run == Some(MOVED);
        if runs && !next {
            // SAFETY: the vCPU was on this CPU until now; loom checks that nobody else is at it.
            self.registers.with_mut(|registers| unsafe { *registers += 1 });
        }
        if next && !runs {
            // SAFETY: the vCPU is on this CPU from now on.
            let loaded = self.registers.with(|registers| unsafe { *registers });
            assert_eq!(loaded, 2, "loaded before they were saved");
        }
        next
    }
}

#[test]
fn a_vcpu_is_handed_over_with_its_registers() {
    loom::model(|| {
        let world = World::new();
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let runs = world.reschedule(CpuId(1), false);
                world.reschedule(CpuId(1), runs)
            }
        });
        let stays = world.reschedule(CpuId(0), true);
        assert!(!stays, "it may not run there any more");
        let moved = other.join().unwrap();
        assert!(moved || world.reschedule(CpuId(1), false), "nobody runs it");
    });
}
