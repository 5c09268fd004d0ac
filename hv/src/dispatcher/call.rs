//! What a hypercall handler gets and what it may answer.

use abi::{DomId, Errno};

use crate::allocator::domain::Domain;
use crate::allocator::{Monitor, Privileged};
use crate::machine;
use crate::types::VcpuKey;

/// One hypercall in progress. The monitor's lock is held.
#[derive(Debug)]
pub struct Call<'a> {
    /// Everything that the monitor knows.
    pub monitor: &'a mut Monitor,
    /// Who calls.
    pub caller: VcpuKey,
    /// x0 to x4, in place: what is written here the guest finds in its registers.
    pub args: &'a mut [u64; 5],
}

/// What does a hypercall's work. The monitor's lock is held.
pub type Handler = fn(&mut Call<'_>) -> Outcome;

/// A handler's answer. Small enough to be returned in two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done: this goes to x0.
    Return(u64),
    /// Done: this goes to x0, and the caller gives up the CPU (it yields, waits, or is no more).
    Reschedule(u64),
    /// Not done, but an interrupt waits or the CPU should be given up: afterwards the caller
    /// executes the HVC again, with the arguments that [`Call::proceed`] left.
    Continue,
}

impl From<Result<u64, Errno>> for Outcome {
    #[inline]
    fn from(result: Result<u64, Errno>) -> Self {
        Outcome::Return(match result {
            Ok(value) => value,
            Err(errno) => errno.to_return().cast_unsigned(),
        })
    }
}

impl From<Errno> for Outcome {
    #[inline]
    fn from(errno: Errno) -> Self {
        Err(errno).into()
    }
}

impl Call<'_> {
    /// The calling domain.
    pub fn domain(&mut self) -> Result<&mut Domain, Errno> {
        self.monitor.domains.get_mut(self.caller.domain).ok_or(Errno::ESRCH)
    }

    /// The right to act on other domains, if the caller has it.
    pub fn privileged(&mut self) -> Result<Privileged, Errno> {
        if self.domain()?.privileged {
            Ok(Privileged::granted_by_dispatcher())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// The domain that an argument names: the caller itself, or another one for a privileged
    /// caller. `EPERM` for others, `ESRCH` if it does not exist.
    pub fn resolve(&mut self, named: DomId) -> Result<DomId, Errno> {
        if named == DomId::SELF || named == self.caller.domain {
            return Ok(self.caller.domain);
        }
        self.privileged()?;
        if self.monitor.domains.get(named).is_none() {
            return Err(Errno::ESRCH);
        }
        Ok(named)
    }

    /// The outcome of an operation that is to go on later, with these arguments.
    pub fn proceed(&mut self, args: [u64; 5]) -> Outcome {
        *self.args = args;
        Outcome::Continue
    }

    /// Whether a long operation should stop here and continue after an interrupt.
    pub fn preempt_pending(&self) -> bool {
        machine::gic::interrupt_pending()
    }
}
