//! What a pair of drivers may be called.

use std::str::FromStr;

use anyhow::{Result, ensure};

/// Longer names would make lines too long.
const LENGTH_MAX: usize = 16;

/// Words that mean something else where the name will stand: Rust's own, crates that are always
/// there, and what the crates call so.
const RESERVED: [&str; 59] = [
    "abi", "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const",
    "continue", "core", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn",
    "for", "gen", "host", "if", "impl", "in", "let", "lib", "loop", "macro", "main", "match",
    "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "std",
    "struct", "super", "test", "tests", "trait", "true", "try", "type", "typeof", "unsafe",
    "unsized", "use", "virtual", "where", "while",
];

/// A pair's name, which is that of its modules, its class, its guest and its domain file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(String);

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Name> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let ends = !text.ends_with('_') && !text.contains("__");
        ensure!(
            starts && ends && text.chars().all(plain) && text.len() <= LENGTH_MAX,
            "`{text}` is no name for a pair: a lower-case letter, then up to {} lower-case \
             letters, digits and single _ between them; for example clock",
            LENGTH_MAX - 1
        );
        ensure!(!RESERVED.contains(&text), "`{text}` means something else in Rust; choose another");
        Ok(Name(text.into()))
    }
}

impl Name {
    /// As modules, classes and files are called.
    pub(super) fn module(&self) -> &str {
        &self.0
    }

    /// As types are called.
    pub(super) fn type_name(&self) -> String {
        self.0.split('_').map(capitalized).collect()
    }

    /// A path with the name in it.
    pub(super) fn in_path(&self, path: &str) -> String {
        path.replace("NAME", &self.0)
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
