//! A dialogue with the dom0 shell in a running machine.
//!
//! The shell marks where its prompt ends and where a command ends with which status ([`Marks`]),
//! so nothing here guesses from what the console shows.

mod failure;
mod marks;
mod script;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use abi::control::LINE_MAX;

pub use failure::Failure;
use marks::{Mark, Marks, Piece};
pub use script::Script;
use watch::PanicWatch;

use crate::qemu::{Console, Exit, Forwarded, Machine, Process, Qmp};

/// What is waited for at the end.
const POWER_OFF: &str = "the machine to power off";
/// How long a dying machine may go on explaining itself.
const LAST_WORDS: Duration = Duration::from_millis(700);

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its status; 0 is success.
    pub status: u8,
    /// What the console showed from after the typed line until the command's end, without colours.
    pub text: String,
}

/// A machine whose console we hold.
pub struct Session {
    machine: Machine,
    process: Process,
    ports: Vec<Forwarded>,
    marks: Marks,
    panic: PanicWatch,
    copy: Option<Box<dyn Write + Send>>,
    transcript: Vec<u8>,
    /// Where in the transcript the command that runs began.
    command_start: usize,
    /// Marks that came and were not waited for yet, with their places in the transcript.
    pending: VecDeque<(Mark, usize)>,
    started: Instant,
    timeout: Duration,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Session {
    /// Starts `machine`, which may take `timeout` in all. What its console shows is also written
    /// to `copy`, without the marks.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(
        machine: Machine,
        timeout: Duration,
        copy: Option<Box<dyn Write + Send>>,
    ) -> anyhow::Result<Session> {
        let mut process = machine.start(Console::Pipe)?;
        let ports = machine.open_ports(&mut process)?;
        Ok(Session {
            machine,
            process,
            ports,
            marks: Marks::default(),
            panic: PanicWatch::default(),
            copy,
            transcript: Vec::new(),
            command_start: 0,
            pending: VecDeque::new(),
            started: Instant::now(),
            timeout,
        })
    }

    /// The host's ports that lead to the machine, in the order in which they were asked for.
    pub fn ports(&self) -> &[Forwarded] {
        &self.ports
    }

    /// Where the machine's sockets are.
    pub fn folder(&self) -> &Path {
        self.machine.folder()
    }

    /// Time since QEMU's start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the console showed so far, without colours.
    pub fn transcript(&self) -> String {
        plain(&self.transcript)
    }

    /// Waits for the first prompt.
    ///
    /// # Errors
    /// There is none.
    pub fn wait_until_ready(&mut self) -> Result<(), Failure> {
        self.wait_for(Mark::Ready, "dom0's first prompt")
    }

    /// Types `line` and waits until that command ended and the next prompt is there.
    ///
    /// # Errors
    /// The machine dies or the command does not end. A status other than 0 is no error here.
    pub fn run(&mut self, line: &str) -> Result<Output, Failure> {
        self.begin(line)?;
        self.finish(line)
    }

    /// Types `line` without waiting for the command's end: see [`Session::finish`].
    ///
    /// # Errors
    /// The machine died, or the line is too long for it.
    pub fn begin(&mut self, line: &str) -> Result<(), Failure> {
        let length = line.chars().count();
        if length > LINE_MAX {
            return Err(Failure::LineTooLong { line: line.into(), length });
        }
        self.command_start = self.transcript.len();
        self.type_bytes(format!("{line}\r").as_bytes(), line)
    }

    /// Waits for the end of the command that [`Session::begin`] began.
    ///
    /// # Errors
    /// The machine dies or the command does not end.
    pub fn finish(&mut self, line: &str) -> Result<Output, Failure> {
        let what = format!("the end of `{line}`");
        let (status, end) = loop {
            if let (Mark::Done(status), place) = self.next_mark(&what)? {
                break (status, place);
            }
        };
        let text = plain(self.transcript.get(self.command_start..end).unwrap_or_default());
        // The first line is the echo of what was typed.
        let text = text.split_once('\n').map_or("", |(_, rest)| rest).to_string();
        self.wait_for(Mark::Ready, &format!("the prompt after `{line}`"))?;
        Ok(Output { status, text })
    }

    /// Types `bytes`, for whom ever reads the console now.
    ///
    /// # Errors
    /// The machine died.
    pub fn type_bytes(&mut self, bytes: &[u8], what: &str) -> Result<(), Failure> {
        if self.process.write(bytes).is_err() {
            return Err(self.ended(&format!("typing `{what}`")));
        }
        Ok(())
    }

    /// Waits until the running command has printed `text`.
    ///
    /// # Errors
    /// The machine dies or the text does not come.
    pub fn wait_for_text(&mut self, text: &str) -> Result<(), Failure> {
        let what = format!("`{text}` on the console");
        while !plain(self.transcript.get(self.command_start..).unwrap_or_default()).contains(text) {
            self.read(&what)?;
        }
        Ok(())
    }

    /// Lets `duration` pass while the machine runs.
    ///
    /// # Errors
    /// The machine dies.
    pub fn wait(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        loop {
            match self.process.read(until) {
                Ok(Some(bytes)) => self.take(&bytes)?,
                Ok(None) => return Err(self.ended("time to pass")),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Types `poweroff` and waits until QEMU has ended.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub fn power_off(mut self) -> Result<(), Failure> {
        self.begin("poweroff")?;
        let exit = self.wait_for_end()?;
        if exit.status.success() {
            return Ok(());
        }
        Err(Failure::ended(POWER_OFF, exit))
    }

    /// Waits until QEMU has ended.
    ///
    /// # Errors
    /// It does not end, or something panics before it does.
    pub fn wait_for_end(&mut self) -> Result<Exit, Failure> {
        loop {
            match self.process.read(self.deadline()) {
                Ok(Some(bytes)) => self.take(&bytes)?,
                Ok(None) => break,
                Err(_) => return Err(self.hang(POWER_OFF)),
            }
        }
        match self.process.wait(Some(self.deadline())) {
            Ok(Some(exit)) => Ok(exit),
            _ => Err(self.hang(POWER_OFF)),
        }
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    fn wait_for(&mut self, mark: Mark, what: &str) -> Result<(), Failure> {
        while self.next_mark(what)?.0 != mark {}
        Ok(())
    }

    fn next_mark(&mut self, what: &str) -> Result<(Mark, usize), Failure> {
        loop {
            if let Some(mark) = self.pending.pop_front() {
                return Ok(mark);
            }
            self.read(what)?;
        }
    }

    /// Takes what the console shows next; waits for it.
    fn read(&mut self, what: &str) -> Result<(), Failure> {
        match self.process.read(self.deadline()) {
            Ok(Some(bytes)) => self.take(&bytes),
            Ok(None) => Err(self.ended(what)),
            Err(RecvTimeoutError::Timeout) => Err(self.hang(what)),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended(what)),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.show(bytes);
        match self.panic.found() {
            None => Ok(()),
            Some(_) => Err(self.panicked()),
        }
    }

    /// Splits `bytes` into what the console shows and the marks.
    fn show(&mut self, bytes: &[u8]) {
        for piece in self.marks.feed(bytes) {
            match piece {
                Piece::Mark(mark) => self.pending.push_back((mark, self.transcript.len())),
                Piece::Text(text) => {
                    self.panic.feed(&text);
                    if let Some(copy) = &mut self.copy {
                        // Nobody reads along any more: the machine goes on.
                        copy.write_all(&text).and_then(|()| copy.flush()).ok();
                    }
                    self.transcript.extend_from_slice(&text);
                }
            }
        }
    }

    /// Shows what a panicking machine still says.
    fn panicked(&mut self) -> Failure {
        while let Ok(Some(bytes)) = self.process.read(Instant::now() + LAST_WORDS) {
            self.show(&bytes);
        }
        Failure::Panic(self.panic.found().unwrap_or_default())
    }

    fn ended(&mut self, what: &str) -> Failure {
        match self.process.wait(Some(Instant::now() + LAST_WORDS)) {
            Ok(Some(exit)) => Failure::ended(what, exit),
            _ => Failure::ConsoleClosed { waiting: what.to_string() },
        }
    }

    fn hang(&mut self, what: &str) -> Failure {
        let cpus = Qmp::connect(&self.machine.qmp_socket()).and_then(|mut qmp| qmp.cpus());
        let places = match cpus {
            Ok(cpus) => cpus.iter().map(|cpu| self.machine.describe(cpu)).collect(),
            Err(reason) => vec![format!("its CPUs cannot be read: {reason:#}")],
        };
        Failure::Hang { waiting: what.to_string(), timeout: self.timeout, places }
    }
}

impl Drop for Session {
    /// What is printed next, a reason perhaps, gets a line of its own.
    fn drop(&mut self) {
        if let Some(copy) = &mut self.copy
            && self.transcript.last().is_some_and(|last| *last != b'\n')
        {
            // Nobody reads along any more: nothing is to be done.
            copy.write_all(b"\n").ok();
        }
    }
}

fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    anstream::adapter::strip_str(&text).to_string().replace('\r', "")
}
