//! Why a session ended badly, in one line each.

use std::process::ExitStatus;
use std::time::Duration;

use abi::control::LINE_MAX;

use crate::qemu::Exit;

/// Why a session ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The monitor or dom0 panicked.
    #[error("{0}")]
    Panic(String),
    /// What was waited for did not come.
    #[error(
        "timeout after {} s, waiting for {waiting}: {}",
        timeout.as_secs_f32(), places.join(", ")
    )]
    Hang {
        /// What was waited for.
        waiting: String,
        /// How long the machine had in all.
        timeout: Duration,
        /// Where its CPUs are.
        places: Vec<String>,
    },
    /// QEMU ended.
    #[error("QEMU ended ({status}) while waiting for {waiting}{}", quoted(said))]
    Ended {
        /// What was waited for.
        waiting: String,
        /// How it ended.
        status: ExitStatus,
        /// Its own message.
        said: String,
    },
    /// A line is longer than dom0's shell takes.
    #[error("a line of {length} characters is not typed: dom0's shell takes {LINE_MAX}: {line}")]
    LineTooLong {
        /// It.
        line: String,
        /// Its characters.
        length: usize,
    },
    /// QEMU closed the console but goes on.
    #[error("QEMU closed the console while waiting for {waiting}")]
    ConsoleClosed {
        /// What was waited for.
        waiting: String,
    },
}

impl Failure {
    /// QEMU ended while `waiting` was waited for.
    pub(super) fn ended(waiting: &str, exit: Exit) -> Failure {
        Failure::Ended { waiting: waiting.to_string(), status: exit.status, said: exit.message }
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
