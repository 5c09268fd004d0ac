//! From the bytes that a terminal sends to the keys that a person pressed.
//!
//! Bytes arrive in any portions: a key of several bytes (UTF-8, an escape sequence) may be split.

/// One key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A printable character.
    Char(char),
    /// Return.
    Enter,
    /// Tab.
    Tab,
    /// Deletes to the left.
    Backspace,
    /// Deletes to the right.
    Delete,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// Cursor to the start.
    Home,
    /// Cursor to the end.
    End,
    /// Older line.
    Up,
    /// Newer line.
    Down,
    /// Ctrl-C
    Interrupt,
    /// Ctrl-K: deletes to the end.
    KillRight,
    /// Ctrl-U: deletes to the start.
    KillLeft,
    /// Ctrl-W: deletes the word to the left.
    KillWord,
    /// Ctrl-L: clears the screen.
    ClearScreen,
}

/// Where in a key of several bytes we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After `ESC [` or `ESC O`, with the number read so far.
    Sequence(u32),
    /// In a UTF-8 character that needs this many more bytes; its bits so far.
    Utf8 { missing: u8, bits: u32 },
}

/// Decodes one byte after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    after_return: bool,
}

impl Decoder {
    /// Takes the next byte; gives the key that it completes.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        // A terminal sends CR, a pipe LF, some both: one line end.
        let second_half = byte == b'\n' && self.after_return;
        self.after_return = byte == b'\r';
        if second_half {
            return None;
        }
        match core::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Sequence(number) => self.sequence(number, byte),
            State::Utf8 { missing, bits } => self.utf8(missing, bits, byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'\r' | b'\n' => Some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 | 0x7F => Some(Key::Backspace),
            0x1B => self.enter(State::Escape),
            b' '..=b'~' => Some(Key::Char(char::from(byte))),
            0xC2..=0xDF => self.enter(State::Utf8 { missing: 1, bits: u32::from(byte & 0x1F) }),
            0xE0..=0xEF => self.enter(State::Utf8 { missing: 2, bits: u32::from(byte & 0x0F) }),
            0xF0..=0xF4 => self.enter(State::Utf8 { missing: 3, bits: u32::from(byte & 0x07) }),
            _ => control(byte),
        }
    }

    fn enter(&mut self, state: State) -> Option<Key> {
        self.state = state;
        None
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' | b'O' => self.enter(State::Sequence(0)),
            0x1B => self.enter(State::Escape),
            _ => None,
        }
    }

    fn sequence(&mut self, number: u32, byte: u8) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                let digit = u32::from(byte - b'0');
                self.enter(State::Sequence(number.saturating_mul(10).saturating_add(digit)))
            }
            // Modifiers follow: the key is what it is without them.
            b';' => self.enter(State::Sequence(0)),
            b'A' => Some(Key::Up),
            b'B' => Some(Key::Down),
            b'C' => Some(Key::Right),
            b'D' => Some(Key::Left),
            b'H' => Some(Key::Home),
            b'F' => Some(Key::End),
            b'~' => match number {
                1 | 7 => Some(Key::Home),
                3 => Some(Key::Delete),
                4 | 8 => Some(Key::End),
                _ => None,
            },
            _ => None,
        }
    }

    fn utf8(&mut self, missing: u8, bits: u32, byte: u8) -> Option<Key> {
        if byte & 0xC0 != 0x80 {
            // Not a continuation: the broken character is dropped, this byte starts afresh.
            return self.ground(byte);
        }
        let bits = bits << 6 | u32::from(byte & 0x3F);
        match missing {
            0 | 1 => char::from_u32(bits).filter(|char| !char.is_control()).map(Key::Char),
            more => self.enter(State::Utf8 { missing: more - 1, bits }),
        }
    }
}

/// Control characters, as readline has them.
fn control(byte: u8) -> Option<Key> {
    match byte {
        0x01 => Some(Key::Home),
        0x02 => Some(Key::Left),
        0x03 => Some(Key::Interrupt),
        0x04 => Some(Key::Delete),
        0x05 => Some(Key::End),
        0x06 => Some(Key::Right),
        0x0B => Some(Key::KillRight),
        0x0C => Some(Key::ClearScreen),
        0x0E => Some(Key::Down),
        0x10 => Some(Key::Up),
        0x15 => Some(Key::KillLeft),
        0x17 => Some(Key::KillWord),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect()
    }

    #[test]
    fn line_ends_count_once() {
        assert_eq!(keys(b"\r\n\n\r\r"), [Key::Enter; 4]);
    }

    #[test]
    fn escape_sequences_are_keys() {
        use Key::*;
        assert_eq!(keys(b"\x1b[A\x1b[B\x1bOC\x1b[D"), [Up, Down, Right, Left]);
        assert_eq!(keys(b"\x1b[H\x1b[4~\x1b[3~\x1b[1;5C"), [Home, End, Delete, Right]);
        assert_eq!(keys(b"\x1b[99~\x1b[15~x"), [Char('x')]);
    }

    #[test]
    fn broken_characters_are_dropped() {
        assert_eq!(keys(b"\xE2\x82x\xFFy\x80z"), ['x', 'y', 'z'].map(Key::Char));
        // A surrogate and an overlong control character are not characters.
        assert_eq!(keys(b"\xED\xA0\x80"), []);
        assert_eq!(keys(b"\xC2\x85"), []);
    }

    proptest! {
        #[test]
        fn printable_text_comes_through(text in "\\PC{0,40}") {
            let expected: Vec<Key> = text.chars().map(Key::Char).collect();
            prop_assert_eq!(keys(text.as_bytes()), expected);
        }

        #[test]
        fn any_bytes_are_survived_and_forgotten(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut decoder = Decoder::default();
            for byte in bytes {
                decoder.feed(byte);
            }
            // No sequence swallows more than the end of itself.
            decoder.feed(b'~');
            decoder.feed(b'~');
            prop_assert_eq!(decoder.feed(b'x'), Some(Key::Char('x')));
        }
    }
}
