//! The last so many bytes of a text, readable by position: what `xl dmesg` shows.

/// A ring of `N` bytes. Positions count bytes since the start of the text, not of the ring, so
/// that a reader notices what it missed.
#[derive(Debug)]
pub(super) struct TextRing<const N: usize> {
    bytes: [u8; N],
    written: u64,
}

impl<const N: usize> TextRing<N> {
    /// An empty ring.
    pub(super) const fn new() -> Self {
        TextRing { bytes: [0; N], written: 0 }
    }

    /// Appends text, over the oldest.
    pub(super) fn write(&mut self, text: &[u8]) {
        for &byte in text {
            let slot = (self.written % N as u64) as usize;
            self.bytes[slot] = byte;
            self.written += 1;
        }
    }

    /// Copies out from a position, or from the oldest byte if that is gone. Returns how much was
    /// copied and the position after it.
    pub(super) fn read(&self, position: u64, into: &mut [u8]) -> (usize, u64) {
        let oldest = self.written.saturating_sub(N as u64);
        let mut at = position.clamp(oldest, self.written);
        let mut count = 0;
        for slot in into.iter_mut() {
            if at == self.written {
                break;
            }
            *slot = self.bytes[(at % N as u64) as usize];
            at += 1;
            count += 1;
        }
        (count, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reader_that_came_late_gets_the_oldest_left() {
        let mut ring = TextRing::<8>::new();
        ring.write(b"0123456789");
        let mut text = [0; 16];
        assert_eq!(ring.read(0, &mut text), (8, 10));
        assert_eq!(&text[..8], b"23456789");
        assert_eq!(ring.read(10, &mut text), (0, 10));
        assert_eq!(ring.read(u64::MAX, &mut text), (0, 10), "a position in the future");
    }

    proptest! {
        #[test]
        fn reading_in_pieces_gives_the_text(
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            piece in 1usize..32,
        ) {
            let mut ring = TextRing::<64>::new();
            let text: Vec<u8> = writes.concat();
            writes.iter().for_each(|write| ring.write(write));
            let (mut position, mut seen, mut buffer) = (0, Vec::new(), [0; 32]);
            loop {
                let (count, next) = ring.read(position, &mut buffer[..piece]);
                if count == 0 {
                    break;
                }
                seen.extend_from_slice(&buffer[..count]);
                position = next;
            }
            prop_assert_eq!(seen, &text[text.len().saturating_sub(64)..]);
        }
    }
}
