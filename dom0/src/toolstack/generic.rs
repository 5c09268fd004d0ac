//! Strings for devices that have no key of their own in domain files: `entropy`, or
//! `clock, hertz=100`: a class, and what its backend is to know.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use thiserror::Error;

use super::{disk, vif};
use crate::backends;

/// Classes whose devices have keys of their own.
const OTHERWISE: [(&str, &str); 2] = [(disk::CLASS, "disk"), (vif::CLASS, "vif")];
/// Keys by which the two ends find each other, and what they say of themselves.
const RESERVED: [&str; 7] =
    ["frontend", "frontend-id", "backend", "backend-id", "state", "online", "error"];

/// One device of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericSpec {
    /// Its class.
    pub class: &'static str,
    /// Keys and values for its backend's directory.
    pub settings: Vec<(String, String)>,
}

impl GenericSpec {
    /// Reads a device's string.
    ///
    /// # Errors
    /// Says which part is wrong and what would be right.
    pub fn parse(text: &str) -> Result<GenericSpec, DeviceError> {
        let mut parts = text.split(',').map(str::trim);
        let class = class(parts.next().unwrap_or_default())?;
        let settings = parts.filter(|part| !part.is_empty()).map(setting);
        Ok(GenericSpec { class, settings: settings.collect::<Result<_, _>>()? })
    }
}

fn class(name: &str) -> Result<&'static str, DeviceError> {
    let class = backends::classes().find(|&class| class == name);
    let class = class.ok_or_else(|| DeviceError::UnknownClass(name.to_string()))?;
    match OTHERWISE.iter().find(|(other, _)| *other == class) {
        Some(&(class, key)) => Err(DeviceError::OwnKey { class, key }),
        None => Ok(class),
    }
}

fn setting(part: &str) -> Result<(String, String), DeviceError> {
    let (key, value) = part.split_once('=').ok_or(DeviceError::NotAPair(part.to_string()))?;
    let (key, value) = (key.trim(), value.trim());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if key.is_empty() || !key.bytes().all(plain) || RESERVED.contains(&key) {
        return Err(DeviceError::BadKey(key.to_string()));
    }
    Ok((key.to_string(), value.to_string()))
}

/// The classes that can be named here.
pub fn classes() -> impl Iterator<Item = &'static str> {
    let is_otherwise = |class: &str| OTHERWISE.iter().any(|(other, _)| *other == class);
    backends::classes().filter(move |class| !is_otherwise(class))
}

/// The same for people.
fn known() -> String {
    classes().collect::<Vec<_>>().join(", ")
}

/// What is wrong with a device's string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Nothing serves such devices.
    #[error("no backend serves class `{0}`; classes: {known}", known = known())]
    UnknownClass(String),
    /// Such devices are given otherwise.
    #[error("devices of class {class} are given by the key `{key}` or by their own xl verbs")]
    OwnKey {
        /// The class.
        class: &'static str,
        /// The domain file's key.
        key: &'static str,
    },
    /// Not `key=value`.
    #[error("`{0}` is not key=value")]
    NotAPair(String),
    /// Not a key that one may set.
    #[error("`{0}` is not a key that can be set: letters, digits, - and _, and not one of xenbus")]
    BadKey(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let error = |text| GenericSpec::parse(text).unwrap_err().to_string();
        assert!(error("abacus").contains("no backend serves class `abacus`"));
        assert!(error("").contains("no backend serves class ``"));
        assert!(error("vbd").contains("the key `disk`"));
        assert_eq!(setting("hertz"), Err(DeviceError::NotAPair("hertz".into())));
        for part in ["=1", "a/b=1", "state=4", "a b=1"] {
            assert!(matches!(setting(part), Err(DeviceError::BadKey(_))), "{part}");
        }
    }

    #[test]
    fn settings_are_keys_of_the_backend() {
        assert_eq!(setting("hertz = 100"), Ok(("hertz".into(), "100".into())));
        assert_eq!(setting("name=a=b"), Ok(("name".into(), "a=b".into())));
    }
}
