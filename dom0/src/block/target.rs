//! Which sectors a disk string means: `disk0`, `disk0p1`, `disk0@1M+8M`, `ram:16M`.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use abi::block::SECTOR_SIZE;
use thiserror::Error;

/// Where a disk's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On a real disk.
    Disk {
        /// Its name.
        disk: String,
        /// Which part of it.
        part: Part,
    },
    /// In dom0's memory, as long as the device exists; zeroes at first.
    Ram {
        /// How much, a whole number of sectors.
        bytes: u64,
    },
}

/// Which part of a real disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// What its partition table calls by this number, from 1 on.
    Partition(u32),
    /// So many bytes from an offset on, both whole numbers of sectors.
    Extent {
        /// In bytes.
        offset: u64,
        /// In bytes.
        bytes: u64,
    },
}

/// A text that names no sectors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no disk; write disk0, disk0p1 (a partition), disk0@1M+8M (8 MiB from 1 MiB on) \
     or ram:16M"
)]
pub struct NotATarget(pub String);

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Target, NotATarget> {
        parse(text).ok_or_else(|| NotATarget(text.to_string()))
    }
}

fn parse(text: &str) -> Option<Target> {
    if let Some(size) = text.strip_prefix("ram:") {
        return Some(Target::Ram { bytes: size_of(size).filter(|&bytes| bytes > 0)? });
    }
    let digits = text.strip_prefix("disk")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    let disk = format!("disk{}", number.parse::<u32>().ok()?);
    let part = if rest.is_empty() {
        Part::Whole
    } else if let Some(number) = rest.strip_prefix('p') {
        Part::Partition(number.parse().ok().filter(|&number| number > 0)?)
    } else {
        let (offset, bytes) = rest.strip_prefix('@')?.split_once('+')?;
        Part::Extent { offset: size_of(offset)?, bytes: size_of(bytes).filter(|&b| b > 0)? }
    };
    Some(Target::Disk { disk, part })
}

/// A number of bytes, with K, M or G for the powers of 1024; a whole number of sectors.
pub fn size_of(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().next_back()? {
        (end, 'K') => (text.get(..end)?, 10),
        (end, 'M') => (text.get(..end)?, 20),
        (end, 'G') => (text.get(..end)?, 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    bytes.is_multiple_of(SECTOR_SIZE as u64).then_some(bytes)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Disk { disk, part: Part::Whole } => f.write_str(disk),
            Target::Disk { disk, part: Part::Partition(number) } => write!(f, "{disk}p{number}"),
            Target::Disk { disk, part: Part::Extent { offset, bytes } } => {
                write!(f, "{disk}@{offset}+{bytes}")
            }
            Target::Ram { bytes } => write!(f, "ram:{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_means_what_it_says() {
        let disk = |part| Some(Target::Disk { disk: "disk0".into(), part });
        assert_eq!(parse("disk0"), disk(Part::Whole));
        assert_eq!(parse("disk0p12"), disk(Part::Partition(12)));
        let extent = Part::Extent { offset: 1 << 20, bytes: 512 << 10 };
        assert_eq!(parse("disk0@1M+512K"), disk(extent));
        assert_eq!(parse("ram:1G"), Some(Target::Ram { bytes: 1 << 30 }));
    }

    #[test]
    fn what_names_no_sectors_is_refused() {
        for text in [
            "",
            "disk",
            "sda",
            "disk0p",
            "disk0p0",
            "disk0q1",
            "disk0@1M",
            "disk0@1M+0",
            "ram:",
            "ram:0",
            "ram:100",
            "disk0@7+1M",
            "ram:99999999999G",
            "disk-1",
            "disk0p1p1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        let message = "sda".parse::<Target>().unwrap_err().to_string();
        assert!(message.contains("disk0p1"), "{message}");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(disk in 0..99_u32, number in 1..200_u32, sectors in 1..1_u64 << 40) {
            let (disk, bytes) = (format!("disk{disk}"), sectors * 512);
            for part in [
                Part::Whole,
                Part::Partition(number),
                Part::Extent { offset: u64::from(number) * 512, bytes },
            ] {
                let target = Target::Disk { disk: disk.clone(), part };
                prop_assert_eq!(parse(&target.to_string()), Some(target));
            }
            prop_assert_eq!(parse(&Target::Ram { bytes }.to_string()), Some(Target::Ram { bytes }));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(disk|ram:)?[a-z0-9@+KMGé]{0,12}") {
            let _ = text.parse::<Target>();
        }
    }
}
