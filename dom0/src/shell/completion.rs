//! What can be completed: commands, `xl` verbs, domain files and domains.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::{basic, line_editor::Completer, xl};
use crate::toolstack::{Toolstack, device};

/// Verbs whose argument is a domain.
const TAKE_DOMAIN: [&str; 15] = [
    "list",
    "destroy",
    "shutdown",
    "pause",
    "unpause",
    "console",
    "counters",
    "vcpu-list",
    "vcpu-pin",
    "network-list",
    "network-attach",
    "network-detach",
    "device-list",
    "device-attach",
    "device-detach",
];

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
            ["xl", "create"] | ["xl", "create", "-c"] => {
                owned(&mut self.toolstack.ramdisk().domain_names())
            }
            ["xl", verb] if TAKE_DOMAIN.contains(verb) => self.toolstack.names(),
            ["xl", "device-attach" | "device-detach", _] => owned(&mut device::classes()),
            ["xl", "shutdown", "-w"] | ["xl", "sched-credit2", "-d"] => self.toolstack.names(),
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
