//! Strings for network interfaces: `mac=00:16:3e:..., bridge=xenbr0, rate=10Mb/s`, as in xl's `vif`
//! key (docs/man/xl-network-configuration).

use alloc::string::{String, ToString};
use core::fmt;

use abi::net::{MacAddress, NotAMacAddress};
use thiserror::Error;

/// The only bridge, by the name that xl gives to the first.
pub const BRIDGE: &str = "xenbr0";
/// The first half of addresses that are made up: Xen's.
const VENDOR: [u8; 3] = [0x00, 0x16, 0x3e];
/// In which a rate is counted if nothing else is said, in microseconds.
const INTERVAL: u64 = 50_000;
const MICROSECONDS: u64 = 1_000_000;

/// One network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VifSpec {
    /// Its hardware address, if it was given one.
    pub mac: Option<MacAddress>,
    /// How much it may send.
    pub rate: Option<Rate>,
}

/// How much may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    bytes_per_second: u64,
    /// In microseconds.
    interval: u64,
}

impl fmt::Display for Rate {
    /// As the backend wants it: bytes in each interval, and the interval.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_second.saturating_mul(self.interval) / MICROSECONDS;
        write!(f, "{},{}", bytes.max(1), self.interval)
    }
}

impl VifSpec {
    /// Reads an interface's string. An empty one means an interface with nothing special.
    ///
    /// # Errors
    /// Says which part is wrong and what would be right.
    pub fn parse(text: &str) -> Result<VifSpec, VifError> {
        let mut spec = VifSpec::default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        for part in parts {
            let (key, value) = part.split_once('=').ok_or(VifError::NotAPair(part.to_string()))?;
            match (key.trim(), value.trim()) {
                ("mac", value) => spec.mac = Some(station(value)?),
                ("rate", value) => spec.rate = Some(Rate::parse(value)?),
                ("bridge", BRIDGE) | ("type", "vif") => {}
                ("bridge", other) => return Err(VifError::Bridge(other.to_string())),
                (key, _) => return Err(VifError::UnknownKey(key.to_string())),
            }
        }
        Ok(spec)
    }

    /// Its hardware address: if it was given none, one that follows from the domain's name and the
    /// interface's number, so that it is the same each time.
    pub fn address(&self, domain: &str, number: u32) -> MacAddress {
        self.mac.unwrap_or_else(|| {
            // FNV-1a: spreads well, and needs no more than this.
            let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            let bytes = domain.bytes().chain([0, number as u8]);
            let [a, b, c, d] = bytes.fold(0x811c_9dc5, step).to_be_bytes();
            let [e, f, g] = VENDOR;
            MacAddress([e, f, g, b ^ a, c, d])
        })
    }
}

/// A station's address: one that frames can come from.
fn station(text: &str) -> Result<MacAddress, VifError> {
    let address: MacAddress = text
        .parse()
        .map_err(|error: NotAMacAddress| VifError::Mac { text: text.to_string(), error })?;
    match address.is_multicast() || address.0 == [0; 6] {
        true => Err(VifError::NotAStation(address)),
        false => Ok(address),
    }
}

impl Rate {
    /// Reads `10Mb/s`, `250KB/s`, `1MB/s@20ms`: b are bits, B are bytes.
    fn parse(text: &str) -> Result<Rate, VifError> {
        let wrong = || VifError::Rate(text.to_string());
        let (rate, interval) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
        let (number, unit) = split_number(rate.strip_suffix("/s").ok_or_else(wrong)?);
        let bits: u64 = match unit {
            "b" => 1,
            "Kb" => 1_000,
            "Mb" => 1_000_000,
            "Gb" => 1_000_000_000,
            "B" => 8,
            "KB" => 8_000,
            "MB" => 8_000_000,
            "GB" => 8_000_000_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes_per_second = number.checked_mul(bits).ok_or_else(wrong)? / 8;
        let interval = interval.map_or(Ok(INTERVAL), |text| interval_of(text).ok_or_else(wrong))?;
        if bytes_per_second == 0 || interval == 0 {
            return Err(wrong());
        }
        Ok(Rate { bytes_per_second, interval })
    }
}

/// In microseconds.
fn interval_of(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text);
    let number: u64 = number.parse().ok()?;
    match unit {
        "us" => Some(number),
        "ms" => number.checked_mul(1_000),
        "s" => number.checked_mul(MICROSECONDS),
        _ => None,
    }
}

/// The digits at the beginning, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// What is wrong with an interface's string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VifError {
    /// Not `key=value`.
    #[error("`{0}` is not key=value")]
    NotAPair(String),
    /// Not a key of these strings.
    #[error("unknown key `{0}`; the keys are mac, bridge, rate and type")]
    UnknownKey(String),
    /// There is one bridge.
    #[error("there is no bridge `{0}`; the only one is {BRIDGE}")]
    Bridge(String),
    /// Not an address.
    #[error("mac `{text}` is {error}")]
    Mac {
        /// What was given.
        text: String,
        /// What it is.
        error: NotAMacAddress,
    },
    /// Not an address of one station.
    #[error("mac {0} is not the address of one station")]
    NotAStation(MacAddress),
    /// Not a rate.
    #[error("rate `{0}` is not a rate such as 10Mb/s, 250KB/s or 1MB/s@20ms")]
    Rate(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_keys_are_read() {
        let spec = VifSpec::parse("mac=00:16:3e:00:00:01, bridge=xenbr0, rate=10Mb/s").unwrap();
        assert_eq!(spec.mac, Some(MacAddress([0, 0x16, 0x3e, 0, 0, 1])));
        assert_eq!(spec.rate.unwrap().to_string(), "62500,50000");
        assert_eq!(VifSpec::parse("").unwrap(), VifSpec::default());
    }

    #[test]
    fn rates_are_xls() {
        let rate = |text| Rate::parse(text).map(|rate| rate.to_string());
        assert_eq!(rate("250KB/s").unwrap(), "12500,50000");
        assert_eq!(rate("1MB/s@20ms").unwrap(), "20000,20000");
        assert_eq!(rate("8b/s@1us").unwrap(), "1,1");
        for text in
            ["", "10", "10/s", "Mb/s", "0MB/s", "1MB", "1MB/s@", "1MB/s@5", "99999999999GB/s"]
        {
            assert_eq!(rate(text), Err(VifError::Rate(text.into())));
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let error = |text| VifSpec::parse(text).unwrap_err();
        assert_eq!(error("eth0"), VifError::NotAPair("eth0".into()));
        assert_eq!(error("colour=red"), VifError::UnknownKey("colour".into()));
        assert_eq!(error("bridge=br7"), VifError::Bridge("br7".into()));
        assert!(matches!(error("mac=1:2:3"), VifError::Mac { .. }));
        assert!(matches!(error("mac=ff:ff:ff:ff:ff:ff"), VifError::NotAStation(_)));
    }

    #[test]
    fn made_up_addresses_are_stable_and_differ() {
        let spec = VifSpec::default();
        let address = spec.address("web", 0);
        assert_eq!(address.0[..3], VENDOR);
        assert_eq!(address, spec.address("web", 0));
        assert_ne!(address, spec.address("web", 1));
        assert_ne!(address, spec.address("wec", 0));
        let given = VifSpec { mac: Some(MacAddress([2; 6])), rate: None };
        assert_eq!(given.address("web", 0), MacAddress([2; 6]));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-zA-Z0-9=,:@/ ]{0,40}") {
            let _ = VifSpec::parse(&text);
        }
    }
}
