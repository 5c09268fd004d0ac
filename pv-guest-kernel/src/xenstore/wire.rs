//! Messages as bytes (public/io/xs_wire.h): requests are written in one piece, answers and events
//! are put together from whatever pieces the ring delivers.

use alloc::string::String;
use alloc::vec::Vec;

use abi::Errno;
use abi::xenstore::{Header, MessageType, PAYLOAD_MAX};
use zerocopy::{FromBytes, IntoBytes};

/// A message from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

/// Identifies a transaction to the store; zero is none.
pub(super) type TransactionId = u32;

/// A request as the ring wants it. `E2BIG` if the payload, which the parts make up, is too long.
pub(super) fn encode(
    kind: MessageType,
    request: u32,
    transaction: TransactionId,
    parts: &[&[u8]],
) -> Result<Vec<u8>, Errno> {
    let payload = parts.concat();
    if payload.len() > PAYLOAD_MAX {
        return Err(Errno::E2BIG);
    }
    let length = u32::try_from(payload.len()).map_err(|_| Errno::E2BIG)?;
    let header = Header { kind: kind.raw(), request, transaction, length };
    Ok([header.as_bytes(), &payload].concat())
}

/// The strings of a payload, each ended by a NUL.
pub(super) fn strings(payload: &[u8]) -> Result<Vec<String>, Errno> {
    payload.split(|&byte| byte == 0).filter(|text| !text.is_empty()).map(text).collect()
}

/// Bytes as text; what is not UTF-8 is not a value that this library deals in: `EINVAL`.
pub(super) fn text(bytes: &[u8]) -> Result<String, Errno> {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    Ok(text.trim_end_matches('\0').into())
}

/// Puts messages together.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes from the ring.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message. `EIO` if what comes is no message: nothing after it can be
    /// understood either.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Errno> {
        let Ok((header, rest)) = Header::read_from_prefix(&self.bytes) else {
            return Ok(None);
        };
        let length = usize::try_from(header.length).map_err(|_| Errno::EIO)?;
        if length > PAYLOAD_MAX {
            return Err(Errno::EIO);
        }
        let Some(payload) = rest.get(..length).map(Vec::from) else {
            return Ok(None);
        };
        self.bytes.drain(..size_of::<Header>() + length);
        Ok(Some(Message { header, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Message>, Errno> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for piece in pieces {
            decoder.feed(&piece);
            while let Some(message) = decoder.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_messages(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
            size in 1..64_usize,
        ) {
            let bytes: Vec<u8> = (0..)
                .zip(&payloads)
                .flat_map(|(id, payload)| {
                    encode(MessageType::Write, id, 7, &[payload]).unwrap()
                })
                .collect();
            let messages = decode(bytes.chunks(size).map(Vec::from)).unwrap();
            prop_assert_eq!(messages.len(), payloads.len());
            for ((id, payload), message) in (0..).zip(payloads).zip(messages) {
                prop_assert_eq!(message.header.request, id);
                prop_assert_eq!(message.header.transaction, 7);
                prop_assert_eq!(message.payload, payload);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode([bytes]);
        }
    }

    #[test]
    fn too_long_a_payload_is_refused_on_either_side() {
        let request = encode(MessageType::Write, 0, 0, &[&[0; PAYLOAD_MAX], &[0]]);
        assert_eq!(request, Err(Errno::E2BIG));
        let header = Header { length: PAYLOAD_MAX as u32 + 1, ..Default::default() };
        assert_eq!(decode([header.as_bytes().to_vec()]), Err(Errno::EIO));
    }
}
