//! The run queue: first in, first out, with removal from the middle.

use super::slots::{PerVcpu, Slot};

#[derive(Debug, Clone, Copy, Default)]
struct Links {
    previous: Option<Slot>,
    next: Option<Slot>,
}

/// A doubly linked list through a table with one entry for each vCPU. The caller knows who is in
/// it: nobody is pushed twice, and only members are removed.
#[derive(Debug)]
pub(super) struct RunQueue {
    links: PerVcpu<Links>,
    head: Option<Slot>,
    tail: Option<Slot>,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        let unlinked = Links { previous: None, next: None };
        RunQueue { links: PerVcpu::filled(unlinked), head: None, tail: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(super) fn push_back(&mut self, slot: Slot) {
        self.links[slot] = Links { previous: self.tail, next: None };
        match self.tail.replace(slot) {
            Some(tail) => self.links[tail].next = Some(slot),
            None => self.head = Some(slot),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Slot> {
        let head = self.head?;
        self.remove(head);
        Some(head)
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Links { previous, next } = core::mem::take(&mut self.links[slot]);
        match previous {
            Some(previous) => self.links[previous].next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => self.links[next].previous = previous,
            None => self.tail = previous,
        }
    }
}
