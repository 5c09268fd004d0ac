//! Versions as tools print them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

/// Major, minor and patch number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl FromStr for Version {
    type Err = Error;

    /// Takes the first word of `text` that starts like a version: "QEMU emulator version 7.2.22
    /// (Debian ...)", "rustc 1.96.0-nightly (...)".
    fn from_str(text: &str) -> Result<Version> {
        text.split_whitespace()
            .find_map(numbers)
            .with_context(|| format!("no version in `{}`", text.lines().next().unwrap_or("")))
    }
}

fn numbers(word: &str) -> Option<Version> {
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let mut parts = word.get(..end)?.split('.').map(str::parse);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    let patch = parts.next().and_then(|patch| patch.ok()).unwrap_or(0);
    Some(Version(major, minor, patch))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_tools_print_them() {
        let cases = [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Version(7, 2, 22)),
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright", Version(10, 0, 2)),
            ("rustc 1.96.0-nightly (ac68faa20 2026-05-25)", Version(1, 96, 0)),
            ("Debian LLD 19.1.7 (compatible with GNU linkers)", Version(19, 1, 7)),
            ("7.2", Version(7, 2, 0)),
        ];
        for (text, version) in cases {
            assert_eq!(text.parse::<Version>().unwrap(), version, "{text}");
        }
        assert!("no numbers here 7".parse::<Version>().is_err());
    }

    #[test]
    fn ten_comes_after_seven() {
        assert!(Version(10, 0, 2) > Version(7, 2, 22));
    }
}
