//! A guest's exit in progress: its registers, and what comes of it.

use crate::interpreter::exception::Fault;
use crate::machine::context::{self, Context};
use crate::types::VcpuKey;

/// What a trap leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The guest goes on.
    Resume,
    /// The vCPU gives up the CPU.
    GiveUp,
    /// The guest takes an exception.
    Take(Fault),
}

/// A trap in progress.
#[derive(Debug)]
pub(super) struct Trap<'a> {
    pub(super) context: &'a mut Context,
    pub(super) caller: VcpuKey,
}

/// Moves on behind the trapped instruction, which is four bytes long. An HVC needs none of this:
/// it returns behind itself.
pub(super) fn skip_instruction() {
    context::set_elr(context::elr().wrapping_add(4));
}

impl Trap<'_> {
    /// The value of a general register; number 31 is the zero register.
    pub(super) fn register(&self, number: usize) -> u64 {
        self.context.x.get(number).copied().unwrap_or(0)
    }

    /// Sets a general register; number 31 is the zero register.
    pub(super) fn set_register(&mut self, number: usize, value: u64) {
        if let Some(register) = self.context.x.get_mut(number) {
            *register = value;
        }
    }
}
