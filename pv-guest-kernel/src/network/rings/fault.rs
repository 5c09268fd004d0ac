//! What a backend does wrong.

use alloc::string::String;

use crate::xenbus::Error;

pub(super) fn unasked() -> Error {
    refused("the backend answers what was not asked")
}

pub(super) fn refused(reason: &str) -> Error {
    Error::Refused(String::from(reason))
}
