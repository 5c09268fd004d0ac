//! What domains may be called.

use alloc::string::{String, ToString};

use thiserror::Error;

/// Most characters of a name.
pub const NAME_MAX: usize = 63;

/// Why a text is not a domain's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("name `{0}` is not a name: a letter, then up to 62 letters, digits, or any of - _ . +")]
pub struct NotAName(String);

/// Whether a domain may be called so.
///
/// # Errors
/// [`NotAName`]
pub fn check_name(name: &str) -> Result<(), NotAName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    // A name that is a number would be taken for a domain's identifier.
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    match starts && name.len() <= NAME_MAX && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(NotAName(name.to_string())),
    }
}
