//! What commands work with.

use core::fmt;

use pv_guest_kernel::xenstore::Client;

use super::{table::Show, terminal::Terminal};
use crate::toolstack::Toolstack;

/// What a command works with.
#[derive(Debug)]
pub struct Session {
    /// Manages domains.
    pub toolstack: Toolstack,
    /// The store, as dom0 sees it.
    pub store: Client,
    /// The person's side.
    pub terminal: Terminal,
    /// How tables are shown.
    pub format: Format,
}

/// How a command shows what a program could want to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Session {
    /// One at this terminal.
    pub fn new(toolstack: Toolstack, store: Client, terminal: Terminal) -> Session {
        Session { toolstack, store, terminal, format: Format::Text }
    }

    /// What people want to know beside a table.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        if self.format == Format::Text {
            writeln!(self.terminal, "{text}");
        }
    }

    /// What a verb shows.
    pub fn show(&mut self, what: &dyn Show) {
        match self.format {
            Format::Text => write!(self.terminal, "{}", what.text()),
            Format::Json => writeln!(self.terminal, "{}", what.json()),
        }
    }
}
