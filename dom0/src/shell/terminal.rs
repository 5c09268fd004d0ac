//! The person's side of the shell: what was typed and not yet used, and where output goes.

use alloc::{collections::VecDeque, format};
use core::fmt;

use abi::control::Kind;
use pv_guest_kernel::console;

use crate::control::{Connection, Gone};

/// Ctrl-C
pub const INTERRUPT: u8 = 0x03;

/// A terminal. What is typed while a command runs waits here for the next.
#[derive(Debug)]
pub struct Terminal {
    typed: VecDeque<u8>,
    line: Line,
}

/// What leads to the person.
#[derive(Debug)]
enum Line {
    /// dom0's own console.
    Console,
    /// A program on the host.
    Remote {
        connection: Connection,
        /// Whether it knows that the command reads what is typed.
        listening: bool,
    },
}

impl Terminal {
    /// At dom0's own console.
    pub fn console() -> Terminal {
        Terminal { typed: VecDeque::new(), line: Line::Console }
    }

    /// Behind a control channel.
    pub fn remote(connection: Connection) -> Terminal {
        Terminal { typed: VecDeque::new(), line: Line::Remote { connection, listening: false } }
    }

    /// What leads to a program on the host, for the next command.
    pub fn into_connection(self) -> Option<Connection> {
        match self.line {
            Line::Console => None,
            Line::Remote { connection, .. } => Some(connection),
        }
    }

    /// Shows bytes as they are. Behind a channel they go out when the command ends, or at
    /// [`Terminal::flush`].
    pub fn write(&mut self, bytes: &[u8]) {
        match &mut self.line {
            Line::Console => console::write(bytes),
            Line::Remote { connection, .. } => connection.put(Kind::Output, bytes),
        }
    }

    /// Shows text: what `write!` and `writeln!` do here cannot fail.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) {
        match &self.line {
            Line::Console => console::print(text),
            Line::Remote { .. } => self.write(format!("{text}").as_bytes()),
        }
    }

    /// Waits until all was taken that was shown. Who shows much does so in between, so that it
    /// does not pile up.
    ///
    /// # Errors
    /// Nobody is there any more.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        match &mut self.line {
            Line::Console => Ok(()),
            Line::Remote { connection, .. } => connection.flush().await,
        }
    }

    /// Waits for the next byte.
    ///
    /// # Errors
    /// Nobody is there any more.
    pub async fn read(&mut self) -> Result<u8, Gone> {
        loop {
            if let Some(byte) = self.typed.pop_front() {
                return Ok(byte);
            }
            self.fill().await?;
        }
    }

    /// Waits until Ctrl-C is typed, and forgets what was typed before it, or until nobody is there
    /// any more.
    pub async fn interrupted(&mut self) {
        loop {
            if let Some(position) = self.typed.iter().position(|&byte| byte == INTERRUPT) {
                self.typed.drain(..=position);
                return;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Gone> {
        match &mut self.line {
            Line::Console => {
                let mut buffer = [0; 64];
                let count = console::read(&mut buffer).await;
                self.typed.extend(buffer.iter().take(count));
            }
            Line::Remote { connection, listening } => {
                if !core::mem::replace(listening, true) {
                    connection.put(Kind::Listen, &[]);
                }
                connection.flush().await?;
                self.typed.extend(connection.next_input().await?);
            }
        }
        Ok(())
    }
}
