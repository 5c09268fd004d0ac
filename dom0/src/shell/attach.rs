//! `xl console`: a person at a domain's console.

use alloc::vec::Vec;

use embassy_futures::select::{Either3, select3};
use pv_guest_kernel::executor;

use super::{command::Failure, session::Session, terminal::Terminal};
use crate::{
    control::Gone,
    toolstack::{Console, End, Ended, Past},
};

/// Ctrl-], which ends the attachment, as in xl and telnet.
const DETACH: u8 = 0x1D;
const ESCAPE: u8 = 0x1B;

/// Shows what a domain printed and prints, and types for it, until it ends or Ctrl-] is typed.
///
/// # Errors
/// There is no such domain, or it crashed.
pub async fn attach(session: &mut Session, name: &str) -> Result<(), Failure> {
    match session.toolstack.console(name)? {
        Console::Past(Past { name, end, output, .. }) => {
            Screen::default().show(&output, &mut session.terminal);
            conclude(session, &name, end)
        }
        Console::Open { name, session: domain, ended } => {
            match converse(&mut session.terminal, domain, &ended).await {
                Some(end) => conclude(session, &name, end),
                None => Ok(()),
            }
        }
    }
}

fn conclude(session: &mut Session, name: &str, end: End) -> Result<(), Failure> {
    if end.is_success() {
        writeln!(session.terminal, "domain {name} {end}");
        return Ok(());
    }
    Err(Failure::Failed(alloc::format!("domain {name} {end}")))
}

/// Carries bytes both ways; returns how the domain ended, or None if the person left.
async fn converse(
    terminal: &mut Terminal,
    mut domain: crate::console::Session,
    ended: &Ended,
) -> Option<End> {
    let mut screen = Screen::default();
    let mut buffer = [0; 512];
    loop {
        // A guest that prints faster than the person's terminal takes it waits.
        terminal.flush().await.ok()?;
        let end = async {
            ended.wait().await;
            // What the domain said last goes first.
            executor::yield_now().await;
        };
        match select3(domain.read(&mut buffer), terminal.read(), end).await {
            Either3::First(0) | Either3::Third(()) => break,
            Either3::First(count) => {
                screen.show(buffer.get(..count).unwrap_or_default(), terminal);
            }
            Either3::Second(Ok(DETACH)) => {
                terminal.write(b"\r\n");
                return None;
            }
            Either3::Second(Ok(byte)) => drop(domain.write(&[byte])),
            Either3::Second(Err(Gone)) => return None,
        }
    }
    // The domain's memory is not free before nobody looks at its console.
    drop(domain);
    Some(ended.wait().await)
}

/// The person's terminal, where a guest may not print operating-system commands: they could
/// retitle windows or pass for the marks by which scripts learn how the shell's own commands ended.
#[derive(Debug, Default)]
struct Screen {
    after_escape: bool,
}

impl Screen {
    fn show(&mut self, output: &[u8], terminal: &mut Terminal) {
        terminal.write(&self.filter(output));
    }

    /// The bytes without the escape characters that begin such commands.
    fn filter(&mut self, output: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(output.len());
        for &byte in output {
            if self.after_escape && !matches!(byte, b']' | ESCAPE) {
                shown.push(ESCAPE);
            }
            self.after_escape = byte == ESCAPE;
            if !self.after_escape {
                shown.push(byte);
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_pass_and_marks_do_not() {
        let mut screen = Screen::default();
        assert_eq!(screen.filter(b"\x1b[31mred\x1b[0m"), b"\x1b[31mred\x1b[0m");
        assert_eq!(screen.filter(b"a\x1b]133;D;0\x07b"), b"a]133;D;0\x07b");
        assert_eq!(screen.filter(b"\x1b"), b"");
        assert_eq!(screen.filter(b"]0;x"), b"]0;x");
        assert_eq!(screen.filter(b"\x1b\x1b]\x1b\x1b[m"), b"]\x1b[m");
    }

    proptest! {
        #[test]
        fn no_portioning_lets_a_command_through(
            portions in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"\x1b]x[".to_vec()), 0..6),
                0..6,
            ),
        ) {
            let mut screen = Screen::default();
            let shown: Vec<u8> = portions.iter().flat_map(|bytes| screen.filter(bytes)).collect();
            prop_assert!(!shown.windows(2).any(|pair| pair == b"\x1b]"));
        }
    }
}
