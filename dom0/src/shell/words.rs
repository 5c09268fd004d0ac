//! Splits a command line into words, with quotes as in a POSIX shell.

use alloc::{string::String, vec::Vec};
use core::{iter::Peekable, str::Chars};

use thiserror::Error;

/// A quote that was opened and not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the quote {0} is not closed")]
pub struct UnclosedQuote(char);

/// The words of `line`. `'...'` takes everything as it is; in `"..."` and outside of quotes a
/// backslash takes the next character as it is; `#` at the start of a word begins a comment.
///
/// # Errors
/// A quote is not closed.
pub fn split(line: &str) -> Result<Vec<String>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|char| char.is_whitespace()).is_some() {}
        match rest.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => words.push(word(&mut rest)?),
        }
    }
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Result<String, UnclosedQuote> {
    let mut word = String::new();
    while let Some(char) = rest.next_if(|char| !char.is_whitespace()) {
        match char {
            '\'' | '"' => quoted(rest, char, &mut word)?,
            '\\' => word.extend(rest.next()),
            _ => word.push(char),
        }
    }
    Ok(word)
}

fn quoted(
    rest: &mut Peekable<Chars<'_>>,
    quote: char,
    word: &mut String,
) -> Result<(), UnclosedQuote> {
    while let Some(char) = rest.next() {
        match char {
            '\\' if quote == '"' => word.extend(rest.next()),
            _ if char == quote => return Ok(()),
            _ => word.push(char),
        }
    }
    Err(UnclosedQuote(quote))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(split("  xl   list ").unwrap(), ["xl", "list"]);
        assert_eq!(
            split(r#"create cmdline="write=4 2" a\ b"#).unwrap()[1..],
            ["cmdline=write=4 2", "a b"]
        );
        assert_eq!(split(r#"disk='["disk0,xvda"]'"#).unwrap(), [r#"disk=["disk0,xvda"]"#]);
        assert_eq!(split(r#"echo "" 'a'b"c\"d""#).unwrap(), ["echo", "", r#"abc"d"#]);
        assert_eq!(split("").unwrap(), [""; 0]);
    }

    #[test]
    fn comments_start_at_a_word() {
        assert_eq!(split("# all of it").unwrap(), [""; 0]);
        assert_eq!(split("echo a#b # rest 'open").unwrap(), ["echo", "a#b"]);
    }

    #[test]
    fn open_quotes_are_errors() {
        assert_eq!(split("echo 'a"), Err(UnclosedQuote('\'')));
        assert_eq!(split("echo \"a\\\""), Err(UnclosedQuote('"')));
    }

    proptest! {
        #[test]
        fn quoting_keeps_every_text(words in prop::collection::vec("[^']{0,10}", 0..5)) {
            let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split(&line.join(" ")).unwrap(), words);
        }

        #[test]
        fn no_line_makes_it_panic(line in ".{0,60}") {
            let _ = split(&line);
        }
    }
}
