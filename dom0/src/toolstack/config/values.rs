//! The values of keys: what they are if nothing is said, and how they are read.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Display;

use abi::event::fifo;
use serde::{Deserialize, Deserializer, de};

use super::{
    super::{cpus::Cpus, disk::DiskSpec, generic::GenericSpec, vif::VifSpec},
    name::check_name,
};

/// Fewest MiB of memory: the kernel, its tables and the device tree must find room.
pub const MEMORY_MIN: u32 = 2;
/// Most MiB of memory: the first bank of the guest's memory map.
pub const MEMORY_MAX: u32 = (abi::guest_map::RAM_MAX_SIZE >> 20) as u32;
/// Most vCPUs that the monitor gives to a domain.
const VCPUS_MAX: u32 = 8;
/// Most frames of a grant table that the monitor gives to a domain.
const GRANT_FRAMES_MAX: u32 = 64;
/// Ports of a domain of which nothing is said: as xl gives.
const EVENT_CHANNELS_DEFAULT: u32 = 1023;
/// Fewest: those of the console and the store.
const EVENT_CHANNELS_MIN: u32 = 2;
/// Weight of a domain of which nothing is said.
const WEIGHT_DEFAULT: u16 = 256;

pub const fn default_memory() -> u32 {
    16
}

pub const fn default_grant_frames() -> u32 {
    GRANT_FRAMES_MAX
}

pub const fn default_event_channels() -> u32 {
    EVENT_CHANNELS_DEFAULT
}

pub const fn default_vcpus() -> u32 {
    1
}

pub const fn default_cpus() -> Cpus {
    Cpus::ALL
}

pub const fn default_weight() -> u16 {
    WEIGHT_DEFAULT
}

pub fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    check_name(&name).map_err(de::Error::custom)?;
    Ok(name)
}

pub fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "memory", "MiB", MEMORY_MIN, MEMORY_MAX)
}

pub fn maxmem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    in_range(deserializer, "maxmem", "MiB", MEMORY_MIN, MEMORY_MAX).map(Some)
}

pub fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "vcpus", "vCPUs", 1, VCPUS_MAX)
}

pub fn maxvcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    in_range(deserializer, "maxvcpus", "vCPUs", 1, VCPUS_MAX).map(Some)
}

pub fn grant_frames<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    in_range(deserializer, "max_grant_frames", "frames of 512 grants", 1, GRANT_FRAMES_MAX)
}

pub fn event_channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let unit = "ports of event channels";
    in_range(deserializer, "event_channels", unit, EVENT_CHANNELS_MIN, fifo::PORTS - 1)
}

pub fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    in_range(deserializer, "cpu_weight", "(256 is usual)", 1, u16::MAX)
}

pub fn cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
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

pub fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cpus, D::Error> {
    let list = CpuList::deserialize(deserializer)
        .map_err(|error| de::Error::custom(format!("cpus: {error}")))?;
    Cpus::parse(&list.text()).map_err(|error| de::Error::custom(format!("cpus: {error}")))
}

pub fn disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DiskSpec>, D::Error> {
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

pub fn interfaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VifSpec>, D::Error> {
    each(deserializer, "vif", VifSpec::parse)
}

pub fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GenericSpec>, D::Error> {
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
