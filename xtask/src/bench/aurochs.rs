//! The bench guest on Aurochs: two domains that dom0 creates.

use anyhow::{Context, Result, ensure};

use super::row::Rows;
use super::{Equipment, Request, TIMEOUT};
use crate::options;
use crate::qemu::Machine;
use crate::session::Session;

/// A machine in which domains measure.
#[derive(Debug)]
pub struct Laboratory<'a> {
    session: &'a mut Session,
    /// The identifier that the next domain gets: the monitor counts.
    next: u16,
}

/// Measures in a machine of its own.
///
/// # Errors
/// The machine or the guest fails.
pub(super) fn measure(equipment: &Equipment, request: &Request) -> Result<Rows> {
    let options = options::Machine { smp: request.cpus, icount: true, ..Default::default() };
    let machine = Machine::new(&equipment.qemu, &equipment.images, &options)?;
    let mut session = Session::start(machine, TIMEOUT, None)?;
    session.wait_until_ready()?;
    let rows = Laboratory::new(&mut session).measure(request, "")?;
    session.power_off()?;
    Ok(rows)
}

impl<'a> Laboratory<'a> {
    /// A machine that shows its prompt, and has not created a domain yet.
    pub fn new(session: &'a mut Session) -> Laboratory<'a> {
        Laboratory { session, next: 1 }
    }

    /// Runs the guest and its partner; `load` is more for the command line of both.
    ///
    /// # Errors
    /// The machine or the guest fails.
    pub fn measure(&mut self, request: &Request, load: &str) -> Result<Rows> {
        let (partner, measurer) = (self.next, self.next + 1);
        let line = Request::partner_command_line(measurer);
        self.create(&format!("bench name=partner cmdline=\"{line} {load}\""))?;
        let line = request.command_line(partner);
        let console = self.create(&format!("-c bench cmdline=\"{line} {load}\""))?;
        Rows::parse(&console)
    }

    /// Creates a domain; returns what that printed.
    ///
    /// # Errors
    /// It was refused, or the machine fails.
    pub fn create(&mut self, arguments: &str) -> Result<String> {
        let output = self.session.run(&format!("xl create {arguments}"))?;
        ensure!(output.status == 0, "`xl create {arguments}` failed: {}", output.text.trim());
        self.next = self.next.checked_add(1).context("out of domain identifiers")?;
        Ok(output.text)
    }
}
