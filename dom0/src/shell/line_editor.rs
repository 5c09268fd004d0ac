//! Editing of one input line, with history and completion.
//!
//! Own code, because the crates for this do not fit an asynchronous shell: `embedded-cli` prints
//! its prompt as soon as a synchronous handler returns, before an asynchronous command has ended;
//! `noline` asks the terminal for its size and waits for the answer, which a script's pipe never
//! gives. The editor is a pure function from keys to bytes for the terminal.

use alloc::{
    collections::VecDeque,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;

use abi::control::LINE_MAX;

use super::keys::Key;

/// Lines that are remembered.
const HISTORY_MAX: usize = 100;
const BELL: &str = "\x07";
const ERASE_TO_END: &str = "\x1b[K";

/// Finds what could stand in place of the last word.
pub trait Completer {
    /// Every possible whole word for the last word of `line`; none if nothing fits.
    fn complete(&self, line: &str) -> Vec<String>;
}

/// What a key led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Still editing.
    Editing,
    /// A line was entered.
    Entered(String),
    /// The line was thrown away (Ctrl-C).
    Interrupted,
}

/// The line being edited. The cursor stands between the two halves.
#[derive(Debug, Default)]
pub struct LineEditor {
    prompt: &'static str,
    left: String,
    /// What is right of the cursor, last character first.
    right: Vec<char>,
    history: VecDeque<String>,
    /// How many lines back in the history we are; 0: at the new line.
    back: usize,
    /// The new line, while an old one is shown.
    draft: String,
}

impl LineEditor {
    /// An empty line behind this prompt.
    pub fn new(prompt: &'static str) -> LineEditor {
        LineEditor { prompt, ..LineEditor::default() }
    }

    /// Handles a key. What the terminal has to show is appended to `screen`.
    pub fn press(&mut self, key: Key, completer: &dyn Completer, screen: &mut String) -> Outcome {
        match key {
            Key::Enter => return self.enter(screen),
            Key::Interrupt => return self.interrupt(screen),
            Key::Char(char) => self.insert(char, screen),
            Key::Tab => self.complete(completer, screen),
            Key::Backspace => self.erase(1, screen),
            Key::KillLeft => self.erase(self.left.chars().count(), screen),
            Key::KillWord => self.erase(last_word_length(&self.left), screen),
            Key::Delete => drop(self.right.pop().map(|_| self.show_right(screen))),
            Key::KillRight => {
                self.right.clear();
                screen.push_str(ERASE_TO_END);
            }
            Key::Left => self.move_left(screen),
            Key::Right => self.move_right(screen),
            Key::Home => while_changes(self, screen, Self::move_left),
            Key::End => while_changes(self, screen, Self::move_right),
            Key::Up => self.recall(self.back.saturating_add(1), screen),
            Key::Down => match self.back.checked_sub(1) {
                Some(back) => self.recall(back, screen),
                None => screen.push_str(BELL),
            },
            Key::ClearScreen => {
                screen.push_str("\x1b[2J\x1b[H");
                self.redraw(screen);
            }
        }
        Outcome::Editing
    }

    fn enter(&mut self, screen: &mut String) -> Outcome {
        screen.push_str("\r\n");
        let line = self.take();
        self.remember(&line);
        Outcome::Entered(line)
    }

    fn interrupt(&mut self, screen: &mut String) -> Outcome {
        screen.push_str("^C\r\n");
        self.take();
        Outcome::Interrupted
    }

    /// The whole line; leaves an empty one.
    fn take(&mut self) -> String {
        self.back = 0;
        let right = core::mem::take(&mut self.right);
        self.left.extend(right.into_iter().rev());
        core::mem::take(&mut self.left)
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() || self.history.back().is_some_and(|last| last == line) {
            return;
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(line.to_string());
    }

    fn insert(&mut self, char: char, screen: &mut String) {
        if self.left.chars().count().saturating_add(self.right.len()) >= LINE_MAX {
            return screen.push_str(BELL);
        }
        self.left.push(char);
        screen.push(char);
        if !self.right.is_empty() {
            self.show_right(screen);
        }
    }

    fn erase(&mut self, count: usize, screen: &mut String) {
        for _ in 0..count {
            if self.left.pop().is_some() {
                screen.push('\x08');
            }
        }
        self.show_right(screen);
    }

    fn move_left(&mut self, screen: &mut String) {
        if let Some(char) = self.left.pop() {
            self.right.push(char);
            screen.push('\x08');
        }
    }

    fn move_right(&mut self, screen: &mut String) {
        if let Some(char) = self.right.pop() {
            self.left.push(char);
            screen.push(char);
        }
    }

    /// Shows what is right of the cursor, and puts the cursor back.
    fn show_right(&self, screen: &mut String) {
        screen.extend(self.right.iter().rev());
        screen.push_str(ERASE_TO_END);
        screen.extend(self.right.iter().map(|_| '\x08'));
    }

    /// Shows prompt and line anew on the current line of the screen.
    pub fn redraw(&self, screen: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(screen, "\r{}{}", self.prompt, self.left);
        self.show_right(screen);
    }

    /// Shows the line that lies `back` lines back in the history.
    fn recall(&mut self, back: usize, screen: &mut String) {
        let current = self.back;
        let old = match back {
            0 => Some(self.draft.clone()),
            _ => self.history.iter().nth_back(back.saturating_sub(1)).cloned(),
        };
        let Some(line) = old else { return screen.push_str(BELL) };
        let edited = self.take();
        if current == 0 {
            self.draft = edited;
        }
        self.left = line;
        self.back = back;
        self.redraw(screen);
    }

    /// Extends the last word as far as it is certain; where nothing is, lists what is possible.
    fn complete(&mut self, completer: &dyn Completer, screen: &mut String) {
        let choices = completer.complete(&self.left);
        let word = last_word(&self.left);
        let certain = common_prefix(&choices);
        let rest = certain.strip_prefix(word).unwrap_or_default().to_string();
        match choices.as_slice() {
            [] => screen.push_str(BELL),
            [_] => {
                rest.chars().for_each(|char| self.insert(char, screen));
                if !certain.ends_with(['=', '/']) {
                    self.insert(' ', screen);
                }
            }
            _ if !rest.is_empty() => rest.chars().for_each(|char| self.insert(char, screen)),
            _ => {
                let _ = write!(screen, "\r\n{}\r\n", choices.join("  "));
                self.redraw(screen);
            }
        }
    }
}

/// Moves until the cursor does not move any more.
fn while_changes(
    editor: &mut LineEditor,
    screen: &mut String,
    step: fn(&mut LineEditor, &mut String),
) {
    loop {
        let before = editor.left.len();
        step(editor, screen);
        if editor.left.len() == before {
            return;
        }
    }
}

/// What completion completes: all after the last space.
pub fn last_word(line: &str) -> &str {
    line.rsplit(' ').next().unwrap_or_default()
}

/// Characters of the last word and of the spaces behind it.
fn last_word_length(line: &str) -> usize {
    let trimmed = line.trim_end();
    let kept = trimmed.len().saturating_sub(last_word(trimmed).len());
    line.get(kept..).map_or(0, |word| word.chars().count())
}

fn common_prefix(words: &[String]) -> String {
    let Some((first, others)) = words.split_first() else { return String::new() };
    let mut prefix = first.as_str();
    for other in others {
        let same = prefix.chars().zip(other.chars()).take_while(|(a, b)| a == b);
        let length: usize = same.map(|(char, _)| char.len_utf8()).sum();
        prefix = prefix.get(..length).unwrap_or_default();
    }
    prefix.to_string()
}

#[cfg(test)]
mod tests;
