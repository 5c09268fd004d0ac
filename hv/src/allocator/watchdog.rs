//! Watchdogs (`SCHEDOP_watchdog`): a domain that does not wind its own up in time is stopped.
//!
//! There is one table for all domains, so that the first to run out is known at once. Any CPU may find one that has run out: each looks when its timer comes, and sets its timer for
//! the next one whenever it decides what to run.

use abi::sched::WATCHDOGS;
use abi::{DomId, Errno};

use super::{MAX_DOMAINS, slot};
use crate::types::Ticks;

/// A domain's watchdogs: when each runs out, if it is in use.
type Timers = [Option<Ticks>; WATCHDOGS];

/// All domains' watchdogs.
#[derive(Debug)]
pub struct Watchdogs {
    of: [Option<(DomId, Timers)>; MAX_DOMAINS],
    /// When the first runs out, or [`Ticks::NEVER`].
    next: Ticks,
}

impl Watchdogs {
    /// None is set.
    pub const fn new() -> Self {
        Watchdogs { of: [None; MAX_DOMAINS], next: Ticks::NEVER }
    }

    /// When the first runs out, or [`Ticks::NEVER`].
    #[inline]
    pub fn next(&self) -> Ticks {
        self.next
    }

    /// Sets a free watchdog and returns its number, from 1. `ENOSPC` if none is free.
    pub fn set_new(&mut self, domain: DomId, at: Ticks) -> Result<u32, Errno> {
        let timers = self.timers(domain);
        let (timer, number) =
            timers.iter_mut().zip(1..).find(|(timer, _)| timer.is_none()).ok_or(Errno::ENOSPC)?;
        *timer = Some(at);
        self.find_next();
        Ok(number)
    }

    /// Sets one again, or frees it. `EINVAL` if it is not in use.
    pub fn set(&mut self, domain: DomId, number: u32, at: Option<Ticks>) -> Result<(), Errno> {
        let index = number.checked_sub(1).ok_or(Errno::EINVAL)? as usize;
        let timer = self.timers(domain).get_mut(index).ok_or(Errno::EINVAL)?;
        if timer.is_none() {
            return Err(Errno::EINVAL);
        }
        *timer = at;
        self.find_next();
        Ok(())
    }

    /// Takes the watchdogs of a domain of which one has run out: the caller stops it. Call until
    /// `None`.
    #[must_use = "the domain whose watchdog has run out goes on"]
    pub fn expired(&mut self, now: Ticks) -> Option<DomId> {
        if self.next > now {
            return None;
        }
        let is_due = |timers: &Timers| timers.iter().flatten().any(|&at| at <= now);
        let due = self.of.iter().flatten().find(|(_, timers)| is_due(timers)).map(|&(id, _)| id)?;
        self.forget(due);
        Some(due)
    }

    /// Forgets a domain's.
    pub fn forget(&mut self, domain: DomId) {
        let place = &mut self.of[slot(domain)];
        if place.is_some_and(|(owner, _)| owner == domain) {
            *place = None;
            self.find_next();
        }
    }

    /// A slot is shared by domains of which one exists at a time: what a former one left is dropped.
    fn timers(&mut self, domain: DomId) -> &mut Timers {
        let place = &mut self.of[slot(domain)];
        if place.is_none_or(|(owner, _)| owner != domain) {
            *place = None;
        }
        &mut place.get_or_insert((domain, [None; WATCHDOGS])).1
    }

    fn find_next(&mut self) {
        let timers = self.of.iter().flatten().flat_map(|(_, timers)| timers);
        self.next = timers.flatten().copied().min().unwrap_or(Ticks::NEVER);
    }
}

impl Default for Watchdogs {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: DomId = DomId(3);
    const B: DomId = DomId(4);

    #[test]
    fn there_are_two_for_each_domain() {
        let mut watchdogs = Watchdogs::new();
        assert_eq!(watchdogs.set_new(A, Ticks(10)), Ok(1));
        assert_eq!(watchdogs.set_new(A, Ticks(20)), Ok(2));
        assert_eq!(watchdogs.set_new(A, Ticks(30)), Err(Errno::ENOSPC));
        assert_eq!(watchdogs.set_new(B, Ticks(5)), Ok(1));
        assert_eq!(watchdogs.next(), Ticks(5));
        assert_eq!(watchdogs.set(A, 1, None), Ok(()));
        assert_eq!(watchdogs.set(A, 1, Some(Ticks(1))), Err(Errno::EINVAL), "it is free");
        assert_eq!(watchdogs.set(A, 3, None), Err(Errno::EINVAL));
        assert_eq!(watchdogs.set(A, 0, None), Err(Errno::EINVAL));
        assert_eq!(watchdogs.set_new(A, Ticks(40)), Ok(1));
    }

    #[test]
    fn one_that_is_wound_up_in_time_does_not_run_out() {
        let mut watchdogs = Watchdogs::new();
        watchdogs.set_new(A, Ticks(10)).unwrap();
        watchdogs.set_new(B, Ticks(11)).unwrap();
        watchdogs.set(A, 1, Some(Ticks(20))).unwrap();
        assert_eq!(watchdogs.expired(Ticks(10)), None);
        assert_eq!(watchdogs.expired(Ticks(15)), Some(B));
        assert_eq!(watchdogs.expired(Ticks(15)), None);
        assert_eq!(watchdogs.next(), Ticks(20));
    }

    #[test]
    fn a_new_domain_in_an_old_place_has_none() {
        let mut watchdogs = Watchdogs::new();
        watchdogs.set_new(A, Ticks(10)).unwrap();
        let heir = DomId(A.0 + MAX_DOMAINS as u16);
        assert_eq!(watchdogs.set(heir, 1, None), Err(Errno::EINVAL));
        watchdogs.forget(heir);
        assert_eq!(watchdogs.next(), Ticks::NEVER);
    }
}
