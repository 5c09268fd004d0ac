//! What the toolstack remembers of a domain that it made.

use alloc::{rc::Rc, string::String, vec::Vec};
use core::{cell::Cell, fmt, time::Duration};

use abi::{DomId, domctl::DomainInfo, sched::ShutdownReason};

use super::{
    config::DomainConfig,
    device::{DeviceId, DeviceSpec},
    estate::Estate,
};
use pv_guest_kernel::{condition::Condition, time};

/// How far a domain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Being built.
    Building,
    /// Being built, and to be taken apart as soon as that is over.
    Cancelled,
    /// In operation, or paused.
    Running,
    /// Stopped, and kept for inspection.
    Preserved,
    /// Being taken apart.
    Ending,
}

/// How a domain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It stopped by itself.
    Shutdown(ShutdownReason),
    /// It was destroyed.
    Destroyed,
}

impl End {
    /// Whether this is what a domain ends with that did its work.
    pub const fn is_success(self) -> bool {
        !matches!(self, End::Shutdown(ShutdownReason::Crash | ShutdownReason::Watchdog))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Shutdown(ShutdownReason::Poweroff) => "powered off",
            End::Shutdown(ShutdownReason::Reboot) => "rebooted",
            End::Shutdown(ShutdownReason::Suspend) => "suspended itself",
            End::Shutdown(ShutdownReason::Crash) => "crashed",
            End::Shutdown(ShutdownReason::Watchdog) => "was ended by its watchdog",
            End::Shutdown(ShutdownReason::SoftReset) => "asked for a soft reset",
            End::Destroyed => "was destroyed",
        })
    }
}

/// Tells any number of tasks that a domain has ended, and how.
#[derive(Debug, Default)]
pub struct Ended {
    end: Cell<Option<End>>,
    changed: Condition,
}

impl Ended {
    /// It has. Only the first word counts.
    pub fn tell(&self, end: End) {
        self.end.set(self.end.get().or(Some(end)));
        self.changed.notify();
    }

    /// Waits until it has.
    pub async fn wait(&self) -> End {
        self.changed.until(|| self.end.get()).await
    }
}

/// How much memory a domain is to have, in MiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now, if it does as it is told.
    pub target: u32,
    /// At most.
    pub max: u32,
}

/// A domain that exists.
#[derive(Debug)]
pub struct Domain {
    /// What it was made from.
    pub config: DomainConfig,
    /// Its name and its devices, as they are now.
    pub estate: Estate,
    /// How much memory it is to have.
    pub memory: Memory,
    /// When its building began, since the machine's start.
    pub since: Duration,
    /// How far it is.
    pub phase: Phase,
    /// Told when the domain has ended and is either preserved or gone.
    pub ended: Rc<Ended>,
}

impl Domain {
    /// One whose building begins.
    pub fn new(config: DomainConfig, estate: Estate) -> Domain {
        let (since, phase, ended) = (time::now(), Phase::Building, Rc::default());
        let memory = Memory { target: config.memory, max: config.max_memory() };
        Domain { config, estate, memory, since, phase, ended }
    }

    /// It is built. Returns whether it may run: nobody wants it to be gone already.
    pub fn built(&mut self) -> bool {
        let may_run = self.phase == Phase::Building;
        if may_run {
            self.phase = Phase::Running;
        }
        may_run
    }

    /// Begins its end; returns whether the caller is to take it apart. Nobody else is at it, and
    /// whoever builds it does so himself: in the middle of it nothing could be told apart.
    pub fn begin_end(&mut self) -> bool {
        match self.phase {
            Phase::Running | Phase::Preserved => {
                self.phase = Phase::Ending;
                true
            }
            Phase::Building => {
                self.phase = Phase::Cancelled;
                false
            }
            Phase::Cancelled | Phase::Ending => false,
        }
    }
}

/// A domain that is gone, and what it printed last.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its name.
    pub name: String,
    /// Its identifier, which another domain may have by now.
    pub id: DomId,
    /// How it ended.
    pub end: End,
    /// The end of what it printed.
    pub output: Vec<u8>,
}

/// What is known of a domain beside its state.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What it was made from.
    pub config: DomainConfig,
    /// How much memory it is to have.
    pub memory: Memory,
    /// Its devices.
    pub devices: Vec<(DeviceId, DeviceSpec)>,
}

/// A line of `xl list`.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its name; `(null)` if it has none, as xl says it.
    pub name: String,
    /// What the monitor knows of it.
    pub info: DomainInfo,
}

#[cfg(test)]
mod tests {
    use pv_guest_kernel::executor;

    use super::*;

    #[test]
    fn the_first_end_is_the_end() {
        executor::run(async {
            let ended = Rc::new(Ended::default());
            let waiting = executor::spawn({
                let ended = ended.clone();
                async move { ended.wait().await }
            });
            executor::yield_now().await;
            ended.tell(End::Shutdown(ShutdownReason::Crash));
            ended.tell(End::Destroyed);
            assert_eq!(waiting.await, End::Shutdown(ShutdownReason::Crash));
        });
    }

    #[test]
    fn a_crash_is_no_success() {
        assert!(End::Shutdown(ShutdownReason::Poweroff).is_success());
        assert!(!End::Shutdown(ShutdownReason::Crash).is_success());
    }
}
