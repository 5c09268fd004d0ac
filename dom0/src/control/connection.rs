//! One program on the host.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::{Header, Kind, PAYLOAD_MAX, SEPARATOR, VERSION};
use thiserror::Error;

use super::ports::{Epoch, Port};

/// Who was connected has gone, or says what makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the program on the host has gone")]
pub struct Gone;

/// A program on the host, as long as it is connected.
#[derive(Debug)]
pub struct Connection {
    port: Rc<Port>,
    epoch: Epoch,
    /// What was received of frames that are not complete yet.
    received: Vec<u8>,
    /// Frames that were not sent yet.
    unsent: Vec<u8>,
}

impl Connection {
    /// Waits for somebody and greets.
    pub async fn accept(port: &Rc<Port>) -> Connection {
        let epoch = port.accept().await;
        let mut connection =
            Connection { port: port.clone(), epoch, received: Vec::new(), unsent: Vec::new() };
        connection.put(Kind::Hello, &[VERSION]);
        connection
    }

    /// Puts a frame behind those that wait to be sent, or several if it does not fit one.
    pub fn put(&mut self, kind: Kind, mut payload: &[u8]) {
        loop {
            let header = Header::new(kind, payload);
            let (now, later) = payload.split_at(header.length);
            self.unsent.extend(header.to_bytes());
            self.unsent.extend(now);
            if later.is_empty() {
                return;
            }
            payload = later;
        }
    }

    /// The frame that ends a command.
    pub fn put_done(&mut self, status: u8, reason: &str) {
        let mut payload = Vec::from([status]);
        payload.extend(reason.bytes().take(PAYLOAD_MAX.saturating_sub(1)));
        self.put(Kind::Done, &payload);
    }

    /// Sends what waits. It may be cancelled and called again.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            let count = self.port.write(self.epoch, &self.unsent).await.ok_or(Gone)?;
            self.unsent.drain(..count);
        }
        Ok(())
    }

    /// The next command's words.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn next_command(&mut self) -> Result<Vec<String>, Gone> {
        loop {
            let (kind, payload) = self.next_frame().await?;
            // What was typed for a command that has ended reaches nobody.
            if kind == Kind::Run {
                let words = payload.split(|&byte| byte == SEPARATOR);
                return Ok(words.map(|word| String::from_utf8_lossy(word).into()).collect());
            }
        }
    }

    /// What was typed next.
    ///
    /// # Errors
    /// [`Gone`]
    pub async fn next_input(&mut self) -> Result<Box<[u8]>, Gone> {
        match self.next_frame().await? {
            (Kind::Input, payload) => Ok(payload),
            _ => Err(Gone),
        }
    }

    /// It may be cancelled and called again: what was received stays.
    async fn next_frame(&mut self) -> Result<(Kind, Box<[u8]>), Gone> {
        loop {
            if let Some((bytes, rest)) = self.received.split_first_chunk() {
                let header = Header::from_bytes(*bytes).ok_or(Gone)?;
                if let Some(payload) = rest.get(..header.length) {
                    let payload = payload.into();
                    self.received.drain(..Header::SIZE.saturating_add(header.length));
                    return Ok((header.kind, payload));
                }
            }
            let bytes = self.port.read(self.epoch).await.ok_or(Gone)?;
            self.received.extend(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
