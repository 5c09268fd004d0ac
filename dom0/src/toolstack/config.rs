//! Domain files: TOML with the keys of xl.cfg.
//!
//! A key given on the command line replaces the file's before anything is read into types, so the
//! same checks and messages serve both.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Display;

use abi::sched::ShutdownReason;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use super::{cpus::Cpus, device::DeviceSpec, disk::DiskSpec, generic::GenericSpec, vif::VifSpec};

/// Keys whose value is text: on the command line they need no quotes.
const TEXT_KEYS: [&str; 10] = [
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
];

/// Fewest MiB of memory: the kernel, its tables and the device tree must find room.
pub const MEMORY_MIN: u32 = 2;
/// Most MiB of memory: the first bank of the guest's memory map.
const MEMORY_MAX: u32 = (abi::guest_map::RAM_MAX_SIZE >> 20) as u32;
/// Most vCPUs that the monitor gives to a domain.
const VCPUS_MAX: u32 = 8;
/// Most frames of a grant table that the monitor gives to a domain.
const GRANT_FRAMES_MAX: u32 = 64;
/// Weight of a domain of which nothing is said.
const WEIGHT_DEFAULT: u16 = 256;

/// What to do with a domain that has stopped (xl.cfg's `on_poweroff` and the like).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Give back all that it had.
    #[default]
    Destroy,
    /// Keep it for inspection.
    Preserve,
    /// Destroy it and build it again.
    Restart,
}

/// A kind of UART (xl.cfg's `vuart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uart {
    /// The SBSA's generic UART, a subset of a PL011.
    SbsaUart,
}

/// Everything that a domain file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain's name, unique among those that run.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Name of the kernel image in the ramdisk.
    pub kernel: String,
    /// Name of the initial ramdisk that the kernel gets.
    #[serde(default)]
    pub ramdisk: Option<String>,
    /// MiB of memory.
    #[serde(default = "default_memory", deserialize_with = "memory")]
    pub memory: u32,
    /// Number of vCPUs that are online when it starts.
    #[serde(default = "default_vcpus", deserialize_with = "vcpus")]
    pub vcpus: u32,
    /// Most vCPUs that it may have online, `vcpus` if nothing is said; see
    /// [`DomainConfig::max_vcpus`].
    #[serde(default, deserialize_with = "maxvcpus")]
    maxvcpus: Option<u32>,
    /// The physical CPUs that its vCPUs may use.
    #[serde(default = "default_cpus", deserialize_with = "cpus")]
    pub cpus: Cpus,
    /// Its share of contended CPUs, relative to other domains'.
    #[serde(default = "default_weight", deserialize_with = "weight")]
    pub cpu_weight: u16,
    /// The most that it may use, in percent of one CPU; 0: no limit.
    #[serde(default, deserialize_with = "cap")]
    pub cap: u16,
    /// Its disks.
    #[serde(default, deserialize_with = "disks")]
    pub disk: Vec<DiskSpec>,
    /// Its network interfaces.
    #[serde(default, deserialize_with = "interfaces")]
    pub vif: Vec<VifSpec>,
    /// Its devices of other classes.
    #[serde(default, deserialize_with = "devices")]
    pub device: Vec<GenericSpec>,
    /// Boot arguments of its kernel.
    #[serde(default)]
    pub cmdline: String,
    /// A command for the guest's first program; see [`DomainConfig::boot_arguments`].
    #[serde(default)]
    pub run: Option<String>,
    /// Most frames of its grant table, of 512 grants each (xl.cfg's `max_grant_frames`).
    #[serde(default = "default_grant_frames", deserialize_with = "grant_frames")]
    pub max_grant_frames: u32,
    /// What to do when it powers off.
    #[serde(default)]
    on_poweroff: Action,
    /// What to do when it reboots.
    #[serde(default = "default_on_reboot")]
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

    /// Most vCPUs that the domain may have online.
    pub fn max_vcpus(&self) -> u32 {
        self.maxvcpus.unwrap_or(self.vcpus)
    }
}

/// A `key=value` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    key: String,
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
    fn value(&self) -> toml::Value {
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

const fn default_memory() -> u32 {
    16
}

const fn default_grant_frames() -> u32 {
    GRANT_FRAMES_MAX
}

const fn default_on_reboot() -> Action {
    Action::Restart
}

const fn default_vcpus() -> u32 {
    1
}

const fn default_cpus() -> Cpus {
    Cpus::ALL
}

const fn default_weight() -> u16 {
    WEIGHT_DEFAULT
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    check_name(&name).map_err(de::Error::custom)?;
    Ok(name)
}

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
    match starts && name.len() <= 63 && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(NotAName(name.to_string())),
    }
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "memory", "MiB", MEMORY_MIN, MEMORY_MAX)
}

fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "vcpus", "vCPUs", 1, VCPUS_MAX)
}

fn maxvcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    in_range(deserializer, "maxvcpus", "vCPUs", 1, VCPUS_MAX).map(Some)
}

fn grant_frames<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "max_grant_frames", "frames of 512 grants", 1, GRANT_FRAMES_MAX)
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    in_range(deserializer, "cpu_weight", "(256 is usual)", 1, u16::MAX)
}

fn cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    in_range(deserializer, "cap", "percent of a CPU", 0, u16::MAX)
}

fn in_range<'de, D: Deserializer<'de>, T: TryFrom<i64> + PartialOrd + Copy + Display>(
    deserializer: D,
    key: &str,
    unit: &str,
    least: T,
    most: T,
) -> Result<T, D::Error> {
    let value = i64::deserialize(deserializer)?;
    match T::try_from(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let message = format!("{key} = {value} is out of range: {least} to {most} {unit}");
            Err(de::Error::custom(message))
        }
    }
}

/// A list of texts, or one text alone.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => [text].into(),
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// A set of CPUs as xl writes it, one number, or a list of either.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a CPU, a text as 0-3, or a list of them")]
enum CpuList {
    Number(u8),
    Text(String),
    Many(Vec<CpuList>),
}

impl CpuList {
    fn text(self) -> String {
        match self {
            CpuList::Number(number) => number.to_string(),
            CpuList::Text(text) => text,
            CpuList::Many(parts) => {
                let texts: Vec<String> = parts.into_iter().map(CpuList::text).collect();
                texts.join(",")
            }
        }
    }
}

fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cpus, D::Error> {
    let list = CpuList::deserialize(deserializer)
        .map_err(|error| de::Error::custom(format!("cpus: {error}")))?;
    Cpus::parse(&list.text()).map_err(|error| de::Error::custom(format!("cpus: {error}")))
}

fn disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DiskSpec>, D::Error> {
    let texts = OneOrMany::deserialize(deserializer)
        .map_err(|error| de::Error::custom(format!("disk: {error}")))?
        .into_vec();
    let mut disks: Vec<DiskSpec> = Vec::new();
    for text in texts {
        let disk = DiskSpec::parse(&text)
            .map_err(|error| de::Error::custom(format!("disk `{text}`: {error}")))?;
        if disks.iter().any(|other| other.vdev == disk.vdev) {
            return Err(de::Error::custom(format!("disk `{text}`: {} is taken", disk.vdev)));
        }
        disks.push(disk);
    }
    Ok(disks)
}

fn interfaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VifSpec>, D::Error> {
    each(deserializer, "vif", VifSpec::parse)
}

fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GenericSpec>, D::Error> {
    each(deserializer, "device", GenericSpec::parse)
}

/// A list of texts, each read by itself.
fn each<'de, D: Deserializer<'de>, T, E: Display>(
    deserializer: D,
    key: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, D::Error> {
    let texts = OneOrMany::deserialize(deserializer)
        .map_err(|error| de::Error::custom(format!("{key}: {error}")))?
        .into_vec();
    let read = |text: &String| {
        parse(text).map_err(|error| de::Error::custom(format!("{key} `{text}`: {error}")))
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
