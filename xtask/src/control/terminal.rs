//! This terminal, while what is typed goes to the machine byte by byte.

use std::io::{self, IsTerminal};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// The terminal hands on each key at once and unseen; as it was before when dropped.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Whether a person types.
    pub fn is_possible() -> bool {
        io::stdin().is_terminal()
    }

    /// Does so; None where nobody types.
    ///
    /// # Errors
    /// The terminal's.
    pub fn enter() -> io::Result<Option<Raw>> {
        if !Raw::is_possible() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        now.input_modes -= InputModes::ICRNL | InputModes::IXON;
        now.local_modes -=
            LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that is gone.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).ok();
    }
}
