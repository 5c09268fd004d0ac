//! `cargo xtask xl` and `cargo xtask console`: dom0's shell from a second terminal of the host.
//!
//! - [`Channel`] speaks with dom0, in the frames of [`abi::control`]
//! - [`Announcement`] is how a running machine is found

mod announcement;
mod channel;
mod terminal;

use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::thread;

use anyhow::Result;

pub use announcement::Announcement;
pub use channel::{Channel, Message, Output, Typist, socket};

use crate::options;
use terminal::Raw;

/// `cargo xtask xl`: runs a verb of `xl` in the running machine; returns its exit status.
///
/// # Errors
/// No machine runs, or it does not answer.
pub fn xl(options: &options::Xl) -> Result<ExitCode> {
    let help = ["help".to_string()];
    let words = if options.words.is_empty() { help.as_slice() } else { &options.words };
    attend(options.machine, words)
}

/// `cargo xtask console`: attaches this terminal to a domain's console.
///
/// # Errors
/// No machine runs, or it does not answer.
pub fn console(options: &options::Console) -> Result<ExitCode> {
    if Raw::is_possible() {
        eprintln!("Ctrl-] leaves.");
    }
    attend(options.machine, &["console".into(), options.domain.clone()])
}

/// Runs a verb, shows what it prints, and types for it if it reads.
fn attend(machine: Option<u32>, words: &[String]) -> Result<ExitCode> {
    let mut channel = Channel::connect(&announcement::find(machine)?)?;
    channel.begin(["xl"].into_iter().chain(words.iter().map(String::as_str)))?;
    let mut raw = None;
    loop {
        match channel.receive()? {
            Message::Output(bytes) => match show(&bytes) {
                // Nobody reads along any more, which is no failure of the verb.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                result => result?,
            },
            Message::Listen => {
                raw = Raw::enter()?;
                let typist = channel.typist()?;
                thread::spawn(move || type_along(typist));
            }
            Message::Done(output) => {
                drop(raw);
                if !output.reason.is_empty() {
                    eprintln!("{}", output.reason);
                }
                return Ok(ExitCode::from(output.status));
            }
        }
    }
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()
}

/// Passes on what is typed, until the verb has ended or no more comes.
fn type_along(mut typist: Typist) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
        if typist.write(&buffer[..count]).is_err() {
            break;
        }
    }
}
