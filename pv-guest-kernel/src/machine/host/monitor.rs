//! Domains that are threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use abi::DomId;

use super::SEAT;
use super::ports::Ports;
use super::table::{Mapped, Table};
use crate::{executor, time};

/// How long a domain may have nothing to do before its test is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine of several domains, each a thread. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Monitor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Notified when something was announced to a domain.
    announced: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// One thread plays all domains.
    alone: bool,
    domains: BTreeMap<u16, Domain>,
    /// By handle.
    pub(super) mapped: BTreeMap<u32, Mapped>,
    pub(super) last_handle: u32,
}

#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) events: Ports,
    pub(super) grants: Table,
}

/// What a domain has not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Ports that are not closed.
    pub ports: usize,
    /// Its grants that are valid.
    pub granted: usize,
    /// Other domains' grants that it has mapped.
    pub mapped: usize,
}

impl Default for Monitor {
    fn default() -> Monitor {
        Monitor::new()
    }
}

impl Monitor {
    /// A machine without domains.
    pub fn new() -> Monitor {
        let state = Mutex::new(State::default());
        Monitor(Arc::new(Inner { state, announced: Condvar::new() }))
    }

    /// A machine of which one thread plays all domains.
    pub(super) fn alone() -> Monitor {
        let monitor = Monitor::new();
        monitor.with(|state| state.alone = true);
        monitor
    }

    /// Runs `main` on a thread that plays all domains.
    pub fn run_alone<T: Send + 'static, F: Future<Output = T> + 'static>(
        main: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        Monitor::alone().start(DomId::DOM0, main).join()
    }

    /// Starts a domain: a thread with an executor that runs `main`.
    ///
    /// The thread stays when `main` is done, as a domain's memory does: tasks that are left in it
    /// hold pages that others use, and state of the thread, which must not go first.
    pub fn start<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        domain: DomId,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Running<T> {
        let (done, result) = mpsc::channel();
        let monitor = self.clone();
        thread::spawn(move || {
            SEAT.set((monitor, domain));
            let run = AssertUnwindSafe(|| executor::run(main()));
            // Nobody may want to know.
            let _ = done.send(catch_unwind(run));
            loop {
                thread::park();
            }
        });
        Running(result)
    }

    /// What a domain has not given back.
    pub fn holdings(&self, domain: DomId) -> Holdings {
        self.with(|state| {
            let mapped = state.mapped.values().filter(|mapped| mapped.holder == domain).count();
            let Domain { events, grants } = state.domain(domain);
            Holdings { ports: events.open(), granted: grants.valid(), mapped }
        })
    }

    pub(super) fn with<R>(&self, access: impl FnOnce(&mut State) -> R) -> R {
        // A panic elsewhere is that test's failure, and no reason to hide this one's.
        access(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the domains that have nothing to do.
    pub(super) fn wake_all(&self) {
        self.0.announced.notify_all();
    }

    /// Sleeps until the deadline, or until something is announced to the domain.
    pub(super) fn wait(&self, domain: DomId, deadline: Option<Duration>) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(deadline.is_some() || !state.alone, "all tasks wait, and nothing can wake them");
        let time = deadline.map_or(PATIENCE, |deadline| deadline.saturating_sub(time::now()));
        let quiet = |state: &mut State| !state.domain(domain).events.is_announced();
        let waited = self.0.announced.wait_timeout_while(state, time, quiet);
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(
            deadline.is_some() || !result.timed_out(),
            "all tasks of {domain} wait, and nobody wakes them"
        );
    }
}

impl State {
    pub(super) fn domain(&mut self, domain: DomId) -> &mut Domain {
        self.domains.entry(domain.0).or_default()
    }

    /// The domain that `caller` names.
    pub(super) fn named(&self, caller: DomId, domain: DomId) -> DomId {
        if self.alone || domain == DomId::SELF { caller } else { domain }
    }

    /// Whether what is meant for one domain may be used by another.
    pub(super) fn is_meant(&self, meant: DomId, user: DomId) -> bool {
        self.alone || meant == user
    }
}

/// A domain that was started.
#[derive(Debug)]
pub struct Running<T>(Receiver<thread::Result<T>>);

impl<T> Running<T> {
    /// Waits until its main function is done. If that panicked, this does.
    pub fn join(self) -> T {
        match self.0.recv() {
            Ok(Ok(output)) => output,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => panic!("the domain's thread is gone"),
        }
    }
}

#[cfg(test)]
mod tests;
