//! Tests of the line editor, against a small terminal.

use proptest::prelude::*;

use super::*;
use crate::shell::keys::Decoder;

const PROMPT: &str = "> ";

/// Knows a few words.
struct Words;

impl Completer for Words {
    fn complete(&self, line: &str) -> Vec<String> {
        ["hash", "hello", "list", "name="]
            .iter()
            .filter(|word| word.starts_with(last_word(line)))
            .map(ToString::to_string)
            .collect()
    }
}

/// The one screen line on which the cursor stands.
#[derive(Default)]
struct Terminal {
    line: Vec<char>,
    column: usize,
}

impl Terminal {
    fn show(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\r' => self.column = 0,
                '\n' => self.line.clear(),
                '\x08' => self.column -= 1,
                '\x07' => {}
                '\x1b' => self.escape(&mut chars),
                char => {
                    self.line.resize(self.line.len().max(self.column + 1), ' ');
                    self.line[self.column] = char;
                    self.column += 1;
                }
            }
        }
    }

    fn escape(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['));
        match chars.find(char::is_ascii_alphabetic) {
            Some('K') => self.line.truncate(self.column),
            Some('J') => self.line.clear(),
            Some('H') => self.column = 0,
            other => panic!("the terminal does not know ESC [ {other:?}"),
        }
    }

    fn text(&self) -> String {
        self.line.iter().collect::<String>().trim_end().to_string()
    }
}

struct Session {
    editor: LineEditor,
    decoder: Decoder,
    terminal: Terminal,
    entered: Vec<String>,
}

impl Session {
    fn new() -> Session {
        let mut session = Session {
            editor: LineEditor::new(PROMPT),
            decoder: Decoder::default(),
            terminal: Terminal::default(),
            entered: Vec::new(),
        };
        session.terminal.show(PROMPT);
        session
    }

    fn send(&mut self, bytes: &[u8]) -> &mut Session {
        for &byte in bytes {
            let Some(key) = self.decoder.feed(byte) else { continue };
            let mut screen = String::new();
            let outcome = self.editor.press(key, &Words, &mut screen);
            self.terminal.show(&screen);
            match outcome {
                Outcome::Editing => continue,
                Outcome::Entered(line) => self.entered.push(line),
                Outcome::Interrupted => {}
            }
            self.terminal.show(PROMPT);
        }
        self
    }

    /// The line as the editor has it.
    fn line(&self) -> String {
        self.editor.left.chars().chain(self.editor.right.iter().rev().copied()).collect()
    }
}

fn entered(bytes: &[u8]) -> Vec<String> {
    let mut session = Session::new();
    session.send(bytes);
    session.entered
}

#[test]
fn typed_lines_are_entered() {
    assert_eq!(entered("xl list\recho ä€😀\n".as_bytes()), ["xl list", "echo ä€😀"]);
}

#[test]
fn editing_in_the_middle() {
    assert_eq!(entered(b"helo\x1b[D\x1b[Dl\r"), ["hello"]);
    assert_eq!(entered(b"xabc\x01\x1b[3~\x05d\x7f\r"), ["abc"]);
    assert_eq!(entered(b"one two  \x17three\r"), ["one three"]);
    assert_eq!(entered(b"one\x15two\x02\x0b\r"), ["tw"]);
}

#[test]
fn an_interrupt_discards_the_line() {
    assert_eq!(entered(b"destroy all\x03list\r"), ["list"]);
}

#[test]
fn history_goes_up_and_down_and_keeps_the_draft() {
    let mut session = Session::new();
    session.send(b"one\rtwo\rtwo\r   \rdra");
    assert_eq!(session.send(b"\x1b[A").line(), "two");
    assert_eq!(session.send(b"\x1b[A").line(), "one");
    assert_eq!(session.send(b"\x1b[A").line(), "one");
    assert_eq!(session.send(b"\x1b[B").line(), "two");
    assert_eq!(session.send(b"\x1b[B\x1b[B").line(), "dra");
    session.send(b"\x1b[A\x1b[A!\r");
    assert_eq!(session.entered.last().unwrap(), "one!");
}

#[test]
fn history_is_bounded() {
    let mut session = Session::new();
    for number in 0..2 * HISTORY_MAX {
        session.send(format!("{number}\r").as_bytes());
    }
    assert_eq!(session.editor.history.len(), HISTORY_MAX);
    session.send(b"\x1b[A".repeat(500).as_slice());
    assert_eq!(session.line(), HISTORY_MAX.to_string());
}

#[test]
fn completion_adds_what_is_certain() {
    assert_eq!(entered(b"l\t\r"), ["list "]);
    assert_eq!(entered(b"xl h\te\t\r"), ["xl hello "]);
    assert_eq!(entered(b"n\tx\r"), ["name=x"]);
    assert_eq!(entered(b"z\t\r"), ["z"]);
}

#[test]
fn ambiguous_completion_lists_and_keeps_the_line() {
    let mut session = Session::new();
    let mut screen = String::new();
    session.send(b"h");
    session.editor.press(Key::Tab, &Words, &mut screen);
    assert!(screen.contains("hash  hello"), "{screen:?}");
    assert_eq!(session.line(), "h");
}

#[test]
fn a_line_is_bounded() {
    assert_eq!(entered(format!("{}\r", "x".repeat(5000)).as_bytes())[0].len(), LINE_MAX);
}

proptest! {
    /// Whatever is pressed, the screen shows the editor's line with the cursor where it is.
    #[test]
    fn the_screen_shows_the_line(
        pieces in prop::collection::vec(
            prop_oneof![
                "[a-zä€ ]{1,3}".prop_map(String::into_bytes),
                prop::sample::select(vec![
                    "\r", "\t", "\x7f", "\x01", "\x02", "\x03", "\x04", "\x05", "\x06", "\x0b",
                    "\x0c", "\x15", "\x17", "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[3~",
                ])
                .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..40,
        ),
    ) {
        let mut session = Session::new();
        for piece in pieces {
            session.send(&piece);
            let expected = format!("{PROMPT}{}", session.line());
            prop_assert_eq!(session.terminal.text(), expected.trim_end());
            let column = PROMPT.len() + session.editor.left.chars().count();
            prop_assert_eq!(session.terminal.column, column);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut editor = LineEditor::new(PROMPT);
        let mut decoder = Decoder::default();
        let mut screen = String::new();
        for key in bytes.into_iter().filter_map(|byte| decoder.feed(byte)) {
            editor.press(key, &Words, &mut screen);
        }
    }
}
