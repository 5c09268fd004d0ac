//! Random bytes that nobody has got yet.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use pv_guest_kernel::condition::Condition;
use pv_guest_kernel::vcpu_local;

vcpu_local! {
    static SOURCE: RefCell<Option<Rc<Source>>> = RefCell::new(None);
}

/// Random bytes, and whether somebody waits for more.
#[derive(Debug, Default)]
pub(super) struct Source {
    bytes: RefCell<Vec<u8>>,
    fed: Condition,
    is_short: Cell<bool>,
    short: Condition,
    /// There will be no more.
    is_exhausted: Cell<bool>,
}

/// The machine's source, if it has one.
pub(super) fn get() -> Option<Rc<Source>> {
    SOURCE.with(|source| source.borrow().clone())
}

/// The machine has a source from now on, which whoever gets it here is to feed.
pub(super) fn set_up() -> Rc<Source> {
    let source = Rc::new(Source::default());
    SOURCE.with(|place| place.replace(Some(source.clone())));
    source
}

impl Source {
    /// Takes so many bytes, which nobody else gets, when there are so many. `None` if there never
    /// will be.
    pub(super) async fn take(&self, length: usize) -> Option<Vec<u8>> {
        let taken = || self.split_off(length).map(Some);
        self.fed.until(|| taken().or_else(|| self.is_exhausted.get().then_some(None))).await
    }

    fn split_off(&self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.borrow_mut();
        let rest = bytes.len().checked_sub(length);
        if rest.is_none() {
            self.is_short.set(true);
            self.short.notify();
        }
        rest.map(|rest| bytes.split_off(rest))
    }

    /// Waits until somebody waits for more.
    pub(super) async fn wanted(&self) {
        self.short.until(|| self.is_short.take().then_some(())).await;
    }

    /// Adds random bytes.
    pub(super) fn feed(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        self.fed.notify();
    }

    /// There will be no more.
    pub(super) fn exhaust(&self) {
        self.is_exhausted.set(true);
        self.fed.notify();
    }
}
