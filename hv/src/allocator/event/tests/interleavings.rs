//! The event words with the model checker's atomics in place of the machine's: a guest's kernel
//! looks for events at any moment while the monitor sends some. Loom tries every order, and every
//! value that memory may show; in each, no event may be lost.

use abi::Port;
use abi::event::fifo::{BUSY, LINK_MASK, LINKED, MASKED, PENDING};
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::allocator::event::news::News;
use crate::allocator::event::upcall::{self, Effect};
use crate::allocator::event::word::SharedWord;
use crate::allocator::event::{fifo, two_level};

/// A word in memory that both sides change. Loom takes a sequentially consistent access for one
/// that acquires and releases; the fences make it what it is on the machine. Loom also lets a store
/// come before an exchange that has not seen it; hence there are exchanges only.
struct Word<A>(A);

macro_rules! modelled_words {
    ($($atomic:ident: $value:ty;)*) => {$(
        impl SharedWord for Word<$atomic> {
            type Value = $value;

            fn load(&self) -> $value {
                ordered(|| self.0.load(SeqCst))
            }

            fn store(&self, value: $value) {
                self.swap(value);
            }

            fn swap(&self, value: $value) -> $value {
                ordered(|| self.0.swap(value, SeqCst))
            }

            fn set(&self, bits: $value) -> $value {
                ordered(|| self.0.fetch_or(bits, SeqCst))
            }

            fn clear(&self, bits: $value) -> $value {
                ordered(|| self.0.fetch_and(!bits, SeqCst))
            }

            fn replace(&self, old: $value, new: $value) -> bool {
                ordered(|| self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok())
            }
        }
    )*};
}

modelled_words! {
    AtomicU8: u8;
    AtomicU32: u32;
    AtomicU64: u64;
}

fn ordered<R>(access: impl FnOnce() -> R) -> R {
    fence(SeqCst);
    let result = access();
    fence(SeqCst);
    result
}

/// Another domain sends, by way of the monitor, and the guest's kernel does something at any moment
/// of that; afterwards it handles the interrupt that waits, if one does.
fn beside<T: Kernel>(world: Arc<T>, send: fn(&T), meanwhile: fn(&T)) {
    let sender = thread::spawn({
        let world = Arc::clone(&world);
        move || send(&world)
    });
    meanwhile(&world);
    sender.join().unwrap();
    world.handle();
}

/// A guest's kernel.
trait Kernel: Send + Sync + 'static {
    /// The handler of the event interrupt, which looks for events if the interrupt waits.
    fn handle(&self);
}

/// The interrupt that waits for the vCPU.
struct Interrupt(AtomicBool);

impl Interrupt {
    fn raise(&self, effect: Effect) {
        if effect == Effect::Upcall {
            self.0.swap(true, SeqCst);
        }
    }

    fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

/// One port of the 2-level ABI, and what leads to it.
struct TwoLevel {
    pending: Word<AtomicU32>,
    mask: Word<AtomicU32>,
    selector: Word<AtomicU64>,
    upcall: Word<AtomicU8>,
    interrupt: Interrupt,
    /// The monitor's lock.
    monitor: Mutex<()>,
    /// Whether the sender's news have been seen.
    news: AtomicBool,
    seen: AtomicBool,
}

/// The port's bit in its words, and the bit of those in the selector.
const BIT: u32 = 1 << 5;
const SELECTED: u64 = 1 << 3;

impl TwoLevel {
    fn new(masked: bool) -> Arc<TwoLevel> {
        Arc::new(TwoLevel {
            pending: Word(AtomicU32::new(0)),
            mask: Word(AtomicU32::new(if masked { BIT } else { 0 })),
            selector: Word(AtomicU64::new(0)),
            upcall: Word(AtomicU8::new(0)),
            interrupt: Interrupt(AtomicBool::new(false)),
            monitor: Mutex::new(()),
            news: AtomicBool::new(false),
            seen: AtomicBool::new(false),
        })
    }

    fn select(&self) {
        let effect = two_level::select(&self.selector, &self.upcall, SELECTED);
        self.interrupt.raise(effect);
    }

    fn send(&self) {
        self.news.store(true, SeqCst);
        let _locked = self.monitor.lock();
        if let Some(News::Pending) = two_level::mark(&self.pending, &self.mask, BIT) {
            self.select();
        }
    }

    /// Linux's way: if it turns out to be pending, the monitor shall unmask it.
    fn unmask(&self) {
        self.mask.clear(BIT);
        if self.pending.load() & BIT == 0 {
            return;
        }
        self.mask.set(BIT);
        let _locked = self.monitor.lock();
        if two_level::unmask_in(&self.mask, &self.pending, BIT) {
            self.select();
        }
    }
}

impl Kernel for TwoLevel {
    fn handle(&self) {
        if !self.interrupt.take() {
            return;
        }
        self.upcall.store(0);
        if self.selector.swap(0) & SELECTED == 0 || self.mask.load() & BIT != 0 {
            return;
        }
        if self.pending.clear(BIT) & BIT != 0 && self.news.load(SeqCst) {
            self.seen.store(true, SeqCst);
        }
    }
}

#[test]
fn a_guest_that_looks_meanwhile_misses_nothing() {
    loom::model(|| {
        let world = TwoLevel::new(false);
        // Two events: the second may find the first on its way.
        beside(Arc::clone(&world), |world| (0..2).for_each(|_| world.send()), TwoLevel::handle);
        assert!(world.seen.load(SeqCst));
        assert!(world.pending.load() == 0);
    });
}

#[test]
fn a_guest_that_unmasks_meanwhile_misses_nothing() {
    loom::model(|| {
        let world = TwoLevel::new(true);
        beside(Arc::clone(&world), TwoLevel::send, TwoLevel::unmask);
        assert!(world.seen.load(SeqCst));
    });
}

/// Two ports of one queue.
struct Fifo {
    /// By port; port 0 is none.
    words: [Word<AtomicU32>; 3],
    head: Word<AtomicU32>,
    ready: Word<AtomicU32>,
    upcall: Word<AtomicU8>,
    interrupt: Interrupt,
    /// The monitor's lock, and what it remembers of the queue.
    tail: Mutex<usize>,
    /// The head as far as the guest knows it.
    known_head: Mutex<u32>,
    news: [AtomicBool; 3],
    seen: [AtomicBool; 3],
}

const PRIORITY: u8 = 7;

impl Fifo {
    fn new(word: u32) -> Arc<Fifo> {
        Arc::new(Fifo {
            words: [0, word, word].map(|word| Word(AtomicU32::new(word))),
            head: Word(AtomicU32::new(0)),
            ready: Word(AtomicU32::new(0)),
            upcall: Word(AtomicU8::new(0)),
            interrupt: Interrupt(AtomicBool::new(false)),
            tail: Mutex::new(0),
            known_head: Mutex::new(0),
            news: [false; 3].map(AtomicBool::new),
            seen: [false; 3].map(AtomicBool::new),
        })
    }

    fn send(&self, port: usize) {
        self.news[port].store(true, SeqCst);
        let mut tail = self.tail.lock().unwrap();
        if let Some(News::Pending) = fifo::mark(&self.words[port]) {
            self.enqueue(port, &mut tail);
        }
    }

    fn enqueue(&self, port: usize, tail: &mut usize) {
        if !fifo::try_claim(&self.words[port]) {
            return;
        }
        let last = core::mem::replace(tail, port);
        let last = (last != 0 && last != port).then(|| &self.words[last]);
        let queue = fifo::Queue { head: &self.head, ready: &self.ready, priority: PRIORITY };
        if queue.append(last, Port(port as u32)) {
            self.interrupt.raise(upcall::raise(&self.upcall));
        }
    }

    /// Takes the first port from the queue. Returns which is next.
    fn take_head(&self) -> u32 {
        let mut head = self.known_head.lock().unwrap();
        if *head == 0 {
            *head = self.head.load();
        }
        let port = *head as usize;
        let before = self.words[port].clear(LINKED | LINK_MASK);
        *head = before & LINK_MASK;
        let word = self.words[port].load();
        if word & PENDING != 0 && word & MASKED == 0 {
            self.words[port].clear(PENDING);
            if self.news[port].load(SeqCst) {
                self.seen[port].store(true, SeqCst);
            }
        }
        *head
    }

    /// As the ABI demands: a port that is busy or pending is unmasked by the monitor.
    fn unmask(&self, port: usize) {
        let word = &self.words[port];
        loop {
            let seen = word.load();
            if seen & MASKED == 0 {
                return;
            }
            if seen & PENDING != 0 {
                break;
            }
            if word.replace(seen & !BUSY, seen & !(BUSY | MASKED)) {
                return;
            }
            thread::yield_now();
        }
        let mut tail = self.tail.lock().unwrap();
        word.clear(MASKED);
        if word.load() & PENDING != 0 {
            self.enqueue(port, &mut tail);
        }
    }
}

impl Kernel for Fifo {
    fn handle(&self) {
        if !self.interrupt.take() {
            return;
        }
        self.upcall.store(0);
        let mut ready = self.ready.swap(0);
        while ready != 0 {
            if self.take_head() == 0 {
                ready = 0;
            }
            ready |= self.ready.swap(0);
        }
    }
}

#[test]
fn a_queue_is_filled_while_it_is_emptied() {
    loom::model(|| {
        let world = Fifo::new(0);
        beside(
            Arc::clone(&world),
            |world| [1, 2].into_iter().for_each(|port| world.send(port)),
            Fifo::handle,
        );
        assert!(world.seen[1].load(SeqCst) && world.seen[2].load(SeqCst));
    });
}

#[test]
fn a_port_joins_again_while_it_is_taken() {
    loom::model(|| {
        let world = Fifo::new(0);
        beside(
            Arc::clone(&world),
            |world| [1, 1].into_iter().for_each(|port| world.send(port)),
            Fifo::handle,
        );
        assert!(world.seen[1].load(SeqCst));
        assert_eq!(world.words[1].load() & PENDING, 0);
    });
}

#[test]
fn a_port_is_unmasked_while_it_is_sent_on() {
    loom::model(|| {
        let world = Fifo::new(MASKED);
        beside(Arc::clone(&world), |world| world.send(1), |world| world.unmask(1));
        assert!(world.seen[1].load(SeqCst));
    });
}
