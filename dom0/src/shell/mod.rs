//! The `xl`-like command line by which a person, or a script, drives the toolstack.
//!
//! Around its prompt and after each command the shell prints the semantic marks of OSC 133, which
//! terminals do not show: `A` before the prompt, `B` after it, `D;STATUS` when a command has
//! ended. A script waits for them instead of guessing. Programs on the host have channels of their
//! own ([`serve`]) and get frames instead.

mod arguments;
mod attach;
mod basic;
mod command;
mod completion;
mod device;
mod disk;
mod identity;
mod keys;
mod lifecycle;
mod line_editor;
mod long;
mod machine;
mod memory;
mod report;
mod scheduling;
mod session;
mod suggest;
mod table;
mod terminal;
mod top;
mod words;
mod xenstore;
mod xl;

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use core::convert::Infallible;

use pv_guest_kernel::{executor, xenstore::Client};

use self::{
    command::Failure,
    completion::Words,
    keys::Decoder,
    line_editor::{LineEditor, Outcome},
    session::Session,
    terminal::Terminal,
};
use crate::{
    control::{Connection, Gone, Port},
    toolstack::Toolstack,
};

const PROMPT: &str = "aurochs> ";
const MARK_PROMPT_START: &str = "\x1b]133;A\x07";
const MARK_PROMPT_END: &str = "\x1b]133;B\x07";

/// Serves dom0's own console as long as there is one: for ever.
pub async fn run(toolstack: Toolstack, store: Client) {
    let mut session = Session::new(toolstack, store, Terminal::console());
    let mut editor = LineEditor::new(PROMPT);
    while let Ok(line) = read_line(&mut session, &mut editor).await {
        let status = execute(&mut session, &line).await;
        write!(session.terminal, "\x1b]133;D;{status}\x07");
    }
}

/// Serves the channels to programs on the host, from now on.
pub fn serve(channels: Vec<Rc<Port>>, toolstack: &Toolstack, store: &Client) {
    for channel in channels {
        let (toolstack, store) = (toolstack.clone(), store.clone());
        executor::spawn(async move {
            loop {
                let connection = Connection::accept(&channel).await;
                // Whoever went away left nothing to be done.
                let Err(Gone) = obey(connection, &toolstack, &store).await;
            }
        })
        .detach();
    }
}

/// Runs one command after the other. One whose client goes away is not broken off: what it began
/// must come to an end.
async fn obey(
    mut connection: Connection,
    toolstack: &Toolstack,
    store: &Client,
) -> Result<Infallible, Gone> {
    loop {
        connection.flush().await?;
        let words = connection.next_command().await?;
        let mut session =
            Session::new(toolstack.clone(), store.clone(), Terminal::remote(connection));
        let (status, reason) = match basic::COMMANDS.run(&mut session, &words).await {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.status(), failure.to_string()),
        };
        connection = session.terminal.into_connection().ok_or(Gone)?;
        connection.put_done(status, &reason);
    }
}

async fn read_line(session: &mut Session, editor: &mut LineEditor) -> Result<String, Gone> {
    let mut decoder = Decoder::default();
    let words = Words::new(session.toolstack.clone());
    let terminal = &mut session.terminal;
    show_prompt(terminal);
    loop {
        let Some(key) = decoder.feed(terminal.read().await?) else { continue };
        let mut screen = String::new();
        let outcome = editor.press(key, &words, &mut screen);
        terminal.write(screen.as_bytes());
        match outcome {
            Outcome::Editing => {}
            Outcome::Entered(line) => return Ok(line),
            Outcome::Interrupted => show_prompt(terminal),
        }
    }
}

fn show_prompt(terminal: &mut Terminal) {
    write!(terminal, "{MARK_PROMPT_START}{PROMPT}{MARK_PROMPT_END}");
}

/// Runs a line; returns its exit status. What went wrong is printed.
async fn execute(session: &mut Session, line: &str) -> u8 {
    match run_line(session, line).await {
        Ok(()) => 0,
        Err(failure) => {
            writeln!(session.terminal, "{failure}");
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
