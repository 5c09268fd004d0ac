//! Arguments that replace keys of a domain file.

use alloc::{
    format,
    string::{String, ToString},
};

use super::ConfigError;

/// Keys whose value is text: on the command line they need no quotes.
const TEXT_KEYS: [&str; 11] = [
    "name",
    "kernel",
    "ramdisk",
    "cmdline",
    "run",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "on_watchdog",
    "vuart",
    "enhanced",
];

/// A `key=value` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub(super) key: String,
    text: String,
}

impl Override {
    /// Reads `key=value`.
    ///
    /// # Errors
    /// There is no key or no equals sign.
    pub fn parse(argument: &str) -> Result<Override, ConfigError> {
        match argument.split_once('=') {
            Some((key, text)) if !key.trim().is_empty() => {
                Ok(Override { key: key.trim().to_string(), text: text.to_string() })
            }
            _ => Err(ConfigError::NotAnOverride(argument.to_string())),
        }
    }

    /// The value as TOML where it is TOML, or else as text: `memory=32`, `disk=["disk0,xvda,w"]`
    /// and `disk=disk0,xvda,w` all mean what they seem to.
    pub(super) fn value(&self) -> toml::Value {
        let literal = || toml::Value::String(self.text.clone());
        if TEXT_KEYS.contains(&self.key.as_str()) {
            return literal();
        }
        let line = format!("value = {}", self.text);
        toml::from_str(&line)
            .ok()
            .and_then(|mut table: toml::Table| table.remove("value"))
            .unwrap_or_else(literal)
    }
}
