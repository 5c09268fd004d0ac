//! What can be completed: commands, `xl` verbs, domain files and domains.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{basic, line_editor::Completer, xl};
use crate::toolstack::{Toolstack, generic};

/// Knows the words that a line may go on with.
#[derive(Debug)]
pub struct Words {
    toolstack: Toolstack,
}

impl Words {
    /// Those of this machine.
    pub fn new(toolstack: Toolstack) -> Words {
        Words { toolstack }
    }

    fn candidates(&self, before: &[&str]) -> Vec<String> {
        let owned =
            |names: &mut dyn Iterator<Item = &str>| names.map(ToString::to_string).collect();
        match before {
            [] => owned(&mut basic::COMMANDS.names()),
            ["xl"] => owned(&mut xl::COMMANDS.names()),
            ["xl", "sched-credit2", "-d"] => self.toolstack.names(),
            ["xl", verb, flags @ ..] if flags.iter().all(|word| word.starts_with('-')) => {
                match xl::COMMANDS.first_argument(verb) {
                    Some("DOMAIN") => self.toolstack.names(),
                    Some("FILE") => owned(&mut self.toolstack.ramdisk().domain_names()),
                    _ => Vec::new(),
                }
            }
            ["xl", "device-attach" | "device-detach", _] => owned(&mut generic::classes()),
            _ => Vec::new(),
        }
    }
}

impl Completer for Words {
    fn complete(&self, line: &str) -> Vec<String> {
        let mut before: Vec<&str> = line.split(' ').collect();
        let word = before.pop().unwrap_or_default();
        before.retain(|word| !word.is_empty());
        let mut fitting = self.candidates(&before);
        fitting.retain(|candidate| candidate.starts_with(word));
        fitting
    }
}
