//! Strings for network interfaces: `mac=00:16:3e:..., bridge=xenbr0, rate=10Mb/s`, as in xl's `vif`
//! key (docs/man/xl-network-configuration).

use alloc::string::{String, ToString};

use abi::net::{MacAddress, NotAMacAddress};
use thiserror::Error;

use super::rate::{NotARate, Rate};

/// Network interfaces in the store.
pub const CLASS: &str = "vif";
/// The only bridge, by the name that xl gives to the first.
pub const BRIDGE: &str = "xenbr0";
/// The first half of addresses that are made up: Xen's.
const VENDOR: [u8; 3] = [0x00, 0x16, 0x3e];

/// One network interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VifSpec {
    /// Its hardware address, if it was given one.
    pub mac: Option<MacAddress>,
    /// How much it may send.
    pub rate: Option<Rate>,
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
                ("rate", value) => spec.rate = Some(Rate::of_bytes(value)?),
                ("bridge", BRIDGE) | ("type", "vif") => {}
                ("bridge", other) => return Err(VifError::Bridge(other.to_string())),
                (key, _) => return Err(VifError::UnknownKey(key.to_string())),
            }
        }
        Ok(spec)
    }

    /// The same with a hardware address, which it keeps.
    pub fn settled(self, domain: &str, number: u32) -> VifSpec {
        VifSpec { mac: Some(self.address(domain, number)), ..self }
    }

    /// Its hardware address: if it was given none, one that follows from the domain's name and the
    /// interface's number, so that it is the same each time.
    fn address(&self, domain: &str, number: u32) -> MacAddress {
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
    #[error(transparent)]
    Rate(#[from] NotARate),
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
