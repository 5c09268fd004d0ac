//! The person's side of dom0's console: what was typed and not yet used.

use alloc::collections::VecDeque;

use pv_guest_kernel::console;

/// Ctrl-C
pub const INTERRUPT: u8 = 0x03;

/// Reads the console. What is typed while a command runs waits here for the next.
#[derive(Debug, Default)]
pub struct Terminal {
    typed: VecDeque<u8>,
}

impl Terminal {
    /// Waits for the next byte.
    pub async fn read(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.typed.pop_front() {
                return byte;
            }
            self.fill().await;
        }
    }

    /// Waits until Ctrl-C is typed, and forgets what was typed before it.
    pub async fn interrupted(&mut self) {
        loop {
            if let Some(position) = self.typed.iter().position(|&byte| byte == INTERRUPT) {
                self.typed.drain(..=position);
                return;
            }
            self.fill().await;
        }
    }

    async fn fill(&mut self) {
        let mut buffer = [0; 64];
        let count = console::read(&mut buffer).await;
        self.typed.extend(buffer.iter().take(count));
    }
}
