//! What the command line says about an interface.

use smoltcp::wire::{Ipv4Address, Ipv4Cidr};
use thiserror::Error;

use crate::Environment;

/// How an interface gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    /// From a server.
    Dhcp,
    /// It is given.
    Static {
        /// With the length of its network's prefix.
        address: Ipv4Cidr,
        /// By which other networks are reached.
        gateway: Option<Ipv4Address>,
    },
}

/// An argument of the command line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadArgument {
    /// `ip=`
    #[error("ip={0} is neither dhcp nor an address such as 10.0.2.15/24")]
    Address(&'static str),
    /// `gateway=`
    #[error("gateway={0} is not an address such as 10.0.2.2")]
    Gateway(&'static str),
}

impl Configuration {
    /// Reads the kernel's command line: `ip=10.0.2.15/24 gateway=10.0.2.2`, or `ip=dhcp`, which
    /// is also what nothing means.
    ///
    /// # Errors
    /// Names the argument that makes no sense.
    pub fn from_arguments(environment: &Environment) -> Result<Configuration, BadArgument> {
        let address = match environment.argument("ip") {
            None | Some("dhcp") => return Ok(Configuration::Dhcp),
            Some(text) => text.parse().map_err(|()| BadArgument::Address(text))?,
        };
        let gateway = environment.argument("gateway");
        let gateway =
            gateway.map(|text| text.parse().map_err(|_| BadArgument::Gateway(text))).transpose()?;
        Ok(Configuration::Static { address, gateway })
    }
}
