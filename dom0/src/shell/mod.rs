//! The `xl`-like command line by which a person, or a script, drives the toolstack.
//!
//! Around its prompt and after each command the shell prints the semantic marks of OSC 133, which
//! terminals do not show: `A` before the prompt, `B` after it, `D;STATUS` when a command has
//! ended. A script waits for them instead of guessing.

mod attach;
mod basic;
mod command;
mod completion;
mod device;
mod keys;
mod line_editor;
mod network;
mod report;
mod scheduling;
mod suggest;
mod table;
mod terminal;
mod top;
mod vcpu_set;
mod words;
mod xenstore;
mod xl;

use alloc::{
    format,
    string::{String, ToString},
};

use pv_guest_kernel::{console, println, xenstore::Client};

use self::{
    command::Failure,
    completion::Words,
    keys::Decoder,
    line_editor::{LineEditor, Outcome},
    terminal::Terminal,
};
use crate::toolstack::Toolstack;

const PROMPT: &str = "aurochs> ";
const MARK_PROMPT_START: &str = "\x1b]133;A\x07";
const MARK_PROMPT_END: &str = "\x1b]133;B\x07";

/// What commands work with.
#[derive(Debug)]
pub struct Session {
    toolstack: Toolstack,
    store: Client,
    terminal: Terminal,
}

/// Serves the console for ever.
pub async fn run(toolstack: Toolstack, store: Client) {
    let mut session = Session { toolstack, store, terminal: Terminal::default() };
    let mut editor = LineEditor::new(PROMPT);
    loop {
        let line = read_line(&mut session, &mut editor).await;
        let status = execute(&mut session, &line).await;
        console::write(format!("\x1b]133;D;{status}\x07").as_bytes());
    }
}

async fn read_line(session: &mut Session, editor: &mut LineEditor) -> String {
    let mut decoder = Decoder::default();
    let words = Words::new(session.toolstack.clone());
    show_prompt();
    loop {
        let Some(key) = decoder.feed(session.terminal.read().await) else { continue };
        let mut screen = String::new();
        let outcome = editor.press(key, &words, &mut screen);
        console::write(screen.as_bytes());
        match outcome {
            Outcome::Editing => {}
            Outcome::Entered(line) => return line,
            Outcome::Interrupted => show_prompt(),
        }
    }
}

fn show_prompt() {
    console::write(format!("{MARK_PROMPT_START}{PROMPT}{MARK_PROMPT_END}").as_bytes());
}

/// Runs a line; returns its exit status. What went wrong is printed.
async fn execute(session: &mut Session, line: &str) -> u8 {
    match run_line(session, line).await {
        Ok(()) => 0,
        Err(failure) => {
            println!("{failure}");
            failure.status()
        }
    }
}

async fn run_line(session: &mut Session, line: &str) -> Result<(), Failure> {
    let words = words::split(line).map_err(|error| Failure::BadCall(error.to_string()))?;
    if words.is_empty() {
        return Ok(());
    }
    basic::COMMANDS.run(session, &words).await
}
