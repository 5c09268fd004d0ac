//! The control channel between a program on the host and dom0's shell: Aurochs' own, not Xen's.
//!
//! A channel is a port of a virtio console device, and carries one command at a time in frames: a
//! header and up to [`PAYLOAD_MAX`] bytes. dom0 says [`Kind::Hello`] as soon as somebody connects;
//! whatever comes before that was for somebody else. Then:
//!
//! ```text
//! host -> dom0   Run        a command's words
//! dom0 -> host   Output*    what it prints
//! dom0 -> host   Listen     once, if it reads what is typed
//! host -> dom0   Input*     what is typed
//! dom0 -> host   Done       its exit status, and why it failed
//! ```

/// Version of these frames, the payload of [`Kind::Hello`].
pub const VERSION: u8 = 1;
/// Channels that a machine has: so many programs of the host can be served at once.
pub const CHANNELS: usize = 4;
/// Most bytes of a frame behind its header.
pub const PAYLOAD_MAX: usize = 4096 - Header::SIZE;
/// Most characters of a line that is typed at dom0's shell; more are refused with a bell.
pub const LINE_MAX: usize = 1024;
/// Between the words of a command.
pub const SEPARATOR: u8 = 0;

crate::numbers! {
    /// What a frame says.
    pub enum Kind: u8 {
        /// dom0 is there; [`VERSION`].
        Hello = 0,
        /// Run a command: words, with a [`SEPARATOR`] between any two.
        Run = 1,
        /// The command reads what is typed.
        Listen = 2,
        /// Bytes that were typed.
        Input = 3,
        /// Bytes that the command printed.
        Output = 4,
        /// The command has ended: its exit status as one byte, then why it failed, if it did.
        Done = 5,
    }
}

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame says.
    pub kind: Kind,
    /// Bytes of the payload.
    pub length: usize,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 4;

    /// The header of a payload, or of the part of it that fits one frame.
    pub const fn new(kind: Kind, payload: &[u8]) -> Header {
        let length = if payload.len() < PAYLOAD_MAX { payload.len() } else { PAYLOAD_MAX };
        Header { kind, length }
    }

    /// As it is sent: the kind, a zero, and the length with its low byte first.
    pub const fn to_bytes(self) -> [u8; Header::SIZE] {
        let [low, high, ..] = self.length.to_le_bytes();
        [self.kind.raw(), 0, low, high]
    }

    /// Reads what was sent; `None` if it is no header.
    pub fn from_bytes([kind, zero, low, high]: [u8; Header::SIZE]) -> Option<Header> {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let kind = Kind::from_raw(kind).filter(|_| zero == 0 && length <= PAYLOAD_MAX)?;
        Some(Header { kind, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(kind in 0u8..6, length in 0..2 * PAYLOAD_MAX) {
            const BYTES: [u8; 2 * PAYLOAD_MAX] = [0; 2 * PAYLOAD_MAX];
            let header = Header::new(Kind::from_raw(kind).unwrap(), &BYTES[..length]);
            prop_assert_eq!(header.length, length.min(PAYLOAD_MAX));
            prop_assert_eq!(Header::from_bytes(header.to_bytes()), Some(header));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: [u8; Header::SIZE]) {
            if let Some(header) = Header::from_bytes(bytes) {
                prop_assert!(header.length <= PAYLOAD_MAX);
                prop_assert_eq!(header.to_bytes(), bytes);
            }
        }
    }
}
