//! A running QEMU. It ends with this value, and with the thread that started it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::CommandLine;
use crate::setup::Qemu;

/// How long QEMU may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// How QEMU ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub message: String,
}

/// A running QEMU.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Receiver<Vec<u8>>>,
    message: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts QEMU with the console on this terminal.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn on_terminal(qemu: &Qemu, line: &CommandLine<'_>) -> Result<Process> {
        let child = spawn(&mut command(qemu, line)?)?;
        Ok(Process { child, input: None, output: None, message: None })
    }

    /// Starts QEMU with the console in our hands.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn on_pipe(qemu: &Qemu, line: &CommandLine<'_>) -> Result<Process> {
        Process::with_arguments(qemu, &line.arguments()?)
    }

    /// Starts QEMU as another machine than [`CommandLine`] describes, with its standard input and
    /// output in our hands.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn with_arguments(qemu: &Qemu, arguments: &[OsString]) -> Result<Process> {
        let mut command = Command::new(&qemu.program);
        command.args(&qemu.arguments).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let output = child.stdout.take().map(forward);
        let message = child.stderr.take().map(|stream| thread::spawn(move || collect(stream)));
        Ok(Process { input: child.stdin.take(), child, output, message })
    }

    /// Starts QEMU with neither a terminal nor a console in our hands, in a process group of its
    /// own: the terminal's Ctrl-C is then not meant for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn in_background(qemu: &Qemu, line: &CommandLine<'_>) -> Result<Process> {
        let mut command = command(qemu, line)?;
        command.stdin(Stdio::null()).process_group(0);
        Ok(Process { child: spawn(&mut command)?, input: None, output: None, message: None })
    }

    /// The next bytes from the console; `None` when QEMU closed it.
    ///
    /// # Errors
    /// Nothing came until `deadline`.
    pub fn read(&self, deadline: Instant) -> Result<Option<Vec<u8>>, RecvTimeoutError> {
        let Some(output) = &self.output else { return Ok(None) };
        let patience = deadline.saturating_duration_since(Instant::now());
        match output.recv_timeout(patience) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(timeout) => Err(timeout),
        }
    }

    /// Types `bytes` at the console.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        input.write_all(bytes)?;
        input.flush()
    }

    /// Waits until QEMU ends, or `deadline`: then `None`.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<Exit>> {
        let status = match deadline {
            None => self.child.wait()?,
            Some(deadline) => loop {
                if let Some(status) = self.child.try_wait()? {
                    break status;
                }
                if Instant::now() >= deadline {
                    return Ok(None);
                }
                thread::sleep(Duration::from_millis(5));
            },
        };
        let message = self.message.take().and_then(|thread| thread.join().ok());
        Ok(Some(Exit { status, message: message.unwrap_or_default() }))
    }

    /// Whether QEMU has ended; [`Process::wait`] says how.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks QEMU to end, so that it leaves the terminal as it was, and waits for that.
    pub fn terminate(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // It fails if QEMU has ended already, which is what is wanted.
            kill_process(id, Signal::TERM).ok();
        }
        if !matches!(self.wait(Some(Instant::now() + PATIENCE)), Ok(Some(_))) {
            self.kill();
        }
    }

    /// Ends QEMU at once.
    pub fn kill(&mut self) {
        // It fails if QEMU has ended already, which is what is wanted.
        self.child.kill().and_then(|()| self.child.wait().map(drop)).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(qemu: &Qemu, line: &CommandLine<'_>) -> Result<Command> {
    let mut command = Command::new(&qemu.program);
    command.args(&qemu.arguments).args(line.arguments()?);
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<Child> {
    let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only async-signal-safe work is allowed; this is one prctl(2)
    // system call that touches no memory.
    unsafe { command.pre_exec(die_with_us) };
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Passes on what comes, so that it can be waited for with a timeout.
fn forward(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn collect(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read until an error is still worth telling.
    stream.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).trim().to_string()
}
