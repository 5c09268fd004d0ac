//! What the command line says about an interface.

use core::num::NonZeroUsize;

use smoltcp::wire::{Ipv4Address, Ipv4Cidr};
use thiserror::Error;

use crate::Environment;

/// How an interface is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    /// How it gets its address.
    pub addressing: Addressing,
    /// Pairs of rings to use if the backend takes so many, else as many as it takes. Each costs a
    /// megabyte for what comes.
    pub queues: NonZeroUsize,
}

/// How an interface gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
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
    /// `queues=`
    #[error("queues={0} is not a number such as 2")]
    Queues(&'static str),
}

impl Configuration {
    /// Reads the kernel's command line: `ip=10.0.2.15/24 gateway=10.0.2.2`, or `ip=dhcp`, which
    /// is also what nothing means; and `queues=2`, or one without.
    ///
    /// # Errors
    /// Names the argument that makes no sense.
    pub fn from_arguments(environment: &Environment) -> Result<Configuration, BadArgument> {
        let queues = match environment.argument("queues") {
            None => NonZeroUsize::MIN,
            Some(text) => text.parse().map_err(|_| BadArgument::Queues(text))?,
        };
        Ok(Configuration { addressing: Addressing::from_arguments(environment)?, queues })
    }
}

impl Addressing {
    fn from_arguments(environment: &Environment) -> Result<Addressing, BadArgument> {
        let address = match environment.argument("ip") {
            None | Some("dhcp") => return Ok(Addressing::Dhcp),
            Some(text) => text.parse().map_err(|()| BadArgument::Address(text))?,
        };
        let gateway = environment.argument("gateway");
        let gateway =
            gateway.map(|text| text.parse().map_err(|_| BadArgument::Gateway(text))).transpose()?;
        Ok(Addressing::Static { address, gateway })
    }
}
