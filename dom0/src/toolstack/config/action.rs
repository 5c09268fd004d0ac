//! What is done with a domain that has stopped (xl.cfg's `on_poweroff` and the like).

use alloc::{format, string::String};

use serde::{Deserialize, Deserializer, de};

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Give back all that it had.
    #[default]
    Destroy,
    /// Keep it for inspection.
    Preserve,
    /// Destroy it and build it again.
    Restart,
    /// Keep it for inspection, by another name and without its devices, and build it again.
    RenameRestart,
}

impl Action {
    /// By the names that xl has for them.
    const ALL: [(&'static str, Action); 4] = [
        ("destroy", Action::Destroy),
        ("preserve", Action::Preserve),
        ("restart", Action::Restart),
        ("rename-restart", Action::RenameRestart),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Result<Action, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        if let Some(&(_, action)) = known {
            return Ok(action);
        }
        let names = Self::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        Err(match text {
            "coredump-destroy" | "coredump-restart" => format!(
                "`{text}` is not possible: there is no place to write a memory image to; \
                 with `preserve` or `rename-restart` the domain stays to be looked at"
            ),
            "soft-reset" => {
                format!("`{text}` is not possible: a domain keeps nothing; write one of {names}")
            }
            _ => format!("`{text}` is not known; write one of {names}"),
        })
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
        Action::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// When nothing is said of reboots.
pub const fn on_reboot() -> Action {
    Action::Restart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused_with_a_reason() {
        for (name, action) in Action::ALL {
            assert_eq!(Action::parse(name), Ok(action));
            assert_eq!(action.name(), name);
        }
        let error = |text| Action::parse(text).unwrap_err();
        assert!(error("coredump-restart").contains("no place to write"));
        assert!(error("soft-reset").contains("keeps nothing"));
        assert!(error("explode").contains("`restart`, `rename-restart`"));
    }
}
