//! Domain files: TOML with the keys of xl.cfg.
//!
//! A key given on the command line replaces the file's before anything is read into types, so the
//! same checks and messages serve both.

mod action;
mod name;
mod overrides;
mod values;

use alloc::{format, string::String, vec::Vec};

use abi::sched::ShutdownReason;
use serde::Deserialize;
use thiserror::Error;

use super::{cpus::Cpus, device::DeviceSpec, disk::DiskSpec, generic::GenericSpec, vif::VifSpec};

pub use self::{
    action::Action,
    name::{NAME_MAX, NotAName, check_name},
    overrides::Override,
    values::{MEMORY_MAX, MEMORY_MIN},
};

/// A kind of UART (xl.cfg's `vuart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uart {
    /// The SBSA's generic UART, a subset of a PL011.
    SbsaUart,
}

/// Whether a domain is told that it is one (`xen,enhanced` of Xen's dom0less domains).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enhanced {
    /// Its device tree names the hypervisor.
    #[default]
    Enabled,
    /// It does not: the kernel finds a plain machine.
    Disabled,
}

impl Enhanced {
    /// Whether it is told.
    pub fn is_enabled(self) -> bool {
        self == Enhanced::Enabled
    }
}

/// Everything that a domain file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain's name, unique among those that run.
    #[serde(deserialize_with = "values::name")]
    pub name: String,
    /// Name of the kernel image in the ramdisk.
    pub kernel: String,
    /// Name of the initial ramdisk that the kernel gets.
    #[serde(default)]
    pub ramdisk: Option<String>,
    /// MiB of memory.
    #[serde(default = "values::default_memory", deserialize_with = "values::memory")]
    pub memory: u32,
    /// MiB of memory that it may be given while it runs, `memory` if nothing is said; see
    /// [`DomainConfig::max_memory`].
    #[serde(default, deserialize_with = "values::maxmem")]
    maxmem: Option<u32>,
    /// Number of vCPUs that are online when it starts.
    #[serde(default = "values::default_vcpus", deserialize_with = "values::vcpus")]
    pub vcpus: u32,
    /// Most vCPUs that it may have online, `vcpus` if nothing is said; see
    /// [`DomainConfig::max_vcpus`].
    #[serde(default, deserialize_with = "values::maxvcpus")]
    maxvcpus: Option<u32>,
    /// The physical CPUs that its vCPUs may use.
    #[serde(default = "values::default_cpus", deserialize_with = "values::cpus")]
    pub cpus: Cpus,
    /// Its share of contended CPUs, relative to other domains'.
    #[serde(default = "values::default_weight", deserialize_with = "values::weight")]
    pub cpu_weight: u16,
    /// The most that it may use, in percent of one CPU; 0: no limit.
    #[serde(default, deserialize_with = "values::cap")]
    pub cap: u16,
    /// Its disks.
    #[serde(default, deserialize_with = "values::disks")]
    pub disk: Vec<DiskSpec>,
    /// Its network interfaces.
    #[serde(default, deserialize_with = "values::interfaces")]
    pub vif: Vec<VifSpec>,
    /// Its devices of other classes.
    #[serde(default, deserialize_with = "values::devices")]
    pub device: Vec<GenericSpec>,
    /// Boot arguments of its kernel.
    #[serde(default)]
    pub cmdline: String,
    /// A command for the guest's first program; see [`DomainConfig::boot_arguments`].
    #[serde(default)]
    pub run: Option<String>,
    /// Most frames of its grant table, of 512 grants each (xl.cfg's `max_grant_frames`).
    #[serde(default = "values::default_grant_frames", deserialize_with = "values::grant_frames")]
    pub max_grant_frames: u32,
    /// Most ports of event channels (xl.cfg's `event_channels`).
    #[serde(
        default = "values::default_event_channels",
        deserialize_with = "values::event_channels"
    )]
    pub event_channels: u32,
    /// What to do when it powers off.
    #[serde(default)]
    on_poweroff: Action,
    /// What to do when it reboots.
    #[serde(default = "action::on_reboot")]
    on_reboot: Action,
    /// What to do when it crashes.
    #[serde(default)]
    on_crash: Action,
    /// What to do when its watchdog ends it.
    #[serde(default)]
    on_watchdog: Action,
    /// The kind of UART that its device tree names, if any. It is at the same console.
    #[serde(default)]
    pub vuart: Option<Uart>,
    /// Whether the domain is told that it is one.
    #[serde(default)]
    pub enhanced: Enhanced,
}

impl DomainConfig {
    /// Reads a domain file's text, with `key=value` arguments that replace the file's keys.
    ///
    /// # Errors
    /// Names the key or line and what would be right.
    pub fn parse(text: &str, overrides: &[Override]) -> Result<DomainConfig, ConfigError> {
        // First the file alone, since only then do messages have lines to point to.
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| ConfigError::in_text(text, &error))?;
        if overrides.is_empty() {
            return toml::from_str(text)
                .map_err(|error| ConfigError::in_text(text, &error))
                .and_then(DomainConfig::check);
        }
        for replaced in overrides {
            table.insert(replaced.key.clone(), replaced.value());
        }
        table
            .try_into()
            .map_err(|error| ConfigError::in_arguments(&error))
            .and_then(DomainConfig::check)
    }

    /// What no key can say alone.
    fn check(self) -> Result<DomainConfig, ConfigError> {
        if self.vcpus > self.max_vcpus() {
            return Err(ConfigError::TooManyVcpus { vcpus: self.vcpus, most: self.max_vcpus() });
        }
        if self.memory > self.max_memory() {
            let (memory, most) = (self.memory, self.max_memory());
            return Err(ConfigError::TooMuchMemory { memory, most });
        }
        Ok(self)
    }

    /// The kernel's command line: `cmdline`, and `run` as `run="..."`, which Linux puts into the
    /// environment of its first program. What a quoted argument cannot hold is written as `printf
    /// %b` reads it: `\x22` for a quotation mark.
    pub fn boot_arguments(&self) -> String {
        let mut arguments = self.cmdline.clone();
        if let Some(command) = &self.run {
            arguments.push_str(if arguments.is_empty() { "run=\"" } else { " run=\"" });
            for character in command.chars() {
                match character {
                    '"' | '\\' | '\n' | '\t' => {
                        arguments.push_str(&format!("\\x{:02x}", u32::from(character)));
                    }
                    plain => arguments.push(plain),
                }
            }
            arguments.push('"');
        }
        arguments
    }

    /// Its devices of all classes.
    pub fn devices(&self) -> impl Iterator<Item = DeviceSpec> {
        let disks = self.disk.iter().cloned().map(DeviceSpec::Disk);
        let interfaces = self.vif.iter().cloned().map(DeviceSpec::Vif);
        let others = self.device.iter().cloned().map(DeviceSpec::Generic);
        disks.chain(interfaces).chain(others)
    }

    /// What to do when it stops for this reason.
    pub const fn action(&self, reason: ShutdownReason) -> Action {
        match reason {
            ShutdownReason::Poweroff => self.on_poweroff,
            ShutdownReason::Reboot => self.on_reboot,
            ShutdownReason::Crash => self.on_crash,
            ShutdownReason::Watchdog => self.on_watchdog,
            ShutdownReason::Suspend | ShutdownReason::SoftReset => Action::Destroy,
        }
    }

    /// Most MiB that the domain may have.
    pub fn max_memory(&self) -> u32 {
        self.maxmem.unwrap_or(self.memory)
    }

    /// Most vCPUs that the domain may have online.
    pub fn max_vcpus(&self) -> u32 {
        self.maxvcpus.unwrap_or(self.vcpus)
    }
}

/// What is wrong with a domain file or with an argument that replaces one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// In the file's text.
    #[error("line {line}: {message}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// What and why.
        message: String,
    },
    /// After replacing keys.
    #[error("{0}")]
    Arguments(String),
    /// More vCPUs at the start than ever.
    #[error("vcpus = {vcpus} is more than maxvcpus = {most}; raise maxvcpus or lower vcpus")]
    TooManyVcpus {
        /// At the start.
        vcpus: u32,
        /// At most.
        most: u32,
    },
    /// More memory at the start than ever.
    #[error("memory = {memory} is more than maxmem = {most}; raise maxmem or lower memory")]
    TooMuchMemory {
        /// At the start.
        memory: u32,
        /// At most.
        most: u32,
    },
    /// Not `key=value`.
    #[error("`{0}` is not key=value")]
    NotAnOverride(String),
}

impl ConfigError {
    fn in_text(text: &str, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        ConfigError::Text { line, message: in_our_words(error.message()) }
    }

    fn in_arguments(error: &toml::de::Error) -> ConfigError {
        ConfigError::Arguments(in_our_words(error.message()))
    }
}

/// The parser says "field"; xl and these pages say "key".
fn in_our_words(message: &str) -> String {
    message.replace("unknown field", "unknown key").replace("missing field", "missing key")
}

#[cfg(test)]
mod tests;
