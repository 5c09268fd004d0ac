//! Ports of the host that lead into the machine.
//!
//! They are opened when QEMU runs, by its monitor, and not on its command line: a port that
//! somebody else has then costs that port and not the machine.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use super::Qmp;

/// The network's name in QEMU.
pub(super) const NETWORK: &str = "net0";
/// First address that QEMU's DHCP server gives out: behind the one that ports lead to.
pub(super) const DHCP_START: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 32);
/// The address to which QEMU itself forwards if none is said. The guest `web` has it.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// How often another free port is tried.
const ATTEMPTS: usize = 10;

/// What is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Packets.
    Udp,
}

/// The host's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// This one, or none.
    Exactly(u16),
    /// This one, or any.
    Preferably(u16),
    /// Any that is free.
    Any,
}

/// A wish for a port of the host that leads to one of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Of what.
    pub protocol: Protocol,
    /// From where.
    pub host: HostPort,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// One that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// The host's port.
    pub host_port: u16,
    /// What was wished.
    pub forward: Forward,
}

impl Forward {
    /// From a port of the host to the guest `web`.
    pub const fn web(host: HostPort) -> Forward {
        Forward { protocol: Protocol::Tcp, host, address: GUEST, port: 80 }
    }

    /// Has QEMU open it.
    ///
    /// # Errors
    /// The port is not free.
    pub fn open(self, qmp: &mut Qmp) -> Result<Forwarded> {
        let at = |host_port| Forwarded { host_port, forward: self };
        match self.host {
            HostPort::Exactly(port) => at(port)
                .add(qmp)
                .map_err(|error| anyhow!("{error}; choose another with --port or --forward")),
            HostPort::Preferably(port) => at(port).add(qmp).or_else(|_| self.open_any(qmp)),
            HostPort::Any => self.open_any(qmp),
        }
    }

    fn open_any(self, qmp: &mut Qmp) -> Result<Forwarded> {
        let mut result = Err(anyhow!("no port is free"));
        for _ in 0..ATTEMPTS {
            result = Forwarded { host_port: self.protocol.free_port()?, forward: self }.add(qmp);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

impl Protocol {
    /// A port that is free now.
    fn free_port(self) -> Result<u16> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(match self {
            Protocol::Tcp => TcpListener::bind(any)?.local_addr()?.port(),
            Protocol::Udp => UdpSocket::bind(any)?.local_addr()?.port(),
        })
    }
}

impl Forwarded {
    fn add(self, qmp: &mut Qmp) -> Result<Forwarded> {
        let Forwarded { host_port, forward: Forward { protocol, address, port, .. } } = self;
        let rule = format!("{protocol}:127.0.0.1:{host_port}-{address}:{port}");
        let answer = qmp.human(&format!("hostfwd_add {NETWORK} {rule}"))?;
        // It says something only if it did not work.
        if !answer.trim().is_empty() {
            bail!("port {host_port} of this host is not free");
        }
        Ok(self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forwarded { host_port, forward: Forward { protocol, address, port, host } } = self;
        write!(f, "localhost:{host_port} leads to {address}:{port} ({protocol})")?;
        match host {
            HostPort::Preferably(wish) if wish != host_port => {
                write!(f, "; {wish} is in use")
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for Forward {
    type Err = anyhow::Error;

    /// Reads `[tcp:|udp:]HOSTPORT:[ADDRESS:]PORT`.
    fn from_str(text: &str) -> Result<Forward> {
        let (protocol, rest) = match text.split_once(':') {
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            _ => (Protocol::Tcp, text),
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let (host, address, port) = match parts[..] {
            [host, port] => (host, GUEST, port),
            [host, address, port] => (host, address.parse().context("the guest's address")?, port),
            _ => bail!("expected [tcp:|udp:]HOSTPORT:[ADDRESS:]PORT"),
        };
        let host = HostPort::Exactly(host.parse().context("the host's port")?);
        Ok(Forward { protocol, host, address, port: port.parse().context("the guest's port")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read() {
        let short: Forward = "2222:22".parse().unwrap();
        let host = HostPort::Exactly(2222);
        let expected = Forward { protocol: Protocol::Tcp, host, address: GUEST, port: 22 };
        assert_eq!(short, expected);
        let long: Forward = "udp:7:10.0.2.40:7007".parse().unwrap();
        assert_eq!(long.address, Ipv4Addr::new(10, 0, 2, 40));
        assert_eq!((long.protocol, long.port), (Protocol::Udp, 7007));
        for text in ["", "80", "a:80", "80:b", "1:2:3:4", "70000:80", "sctp:1:2", "1:host:2"] {
            assert!(text.parse::<Forward>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_port_that_was_not_the_wish_says_so() {
        let forward = Forward::web(HostPort::Preferably(8080));
        let text = |host_port| Forwarded { host_port, forward }.to_string();
        assert_eq!(text(8080), "localhost:8080 leads to 10.0.2.15:80 (tcp)");
        assert_eq!(text(4711), "localhost:4711 leads to 10.0.2.15:80 (tcp); 8080 is in use");
    }

    #[test]
    fn free_ports_are_free() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            assert_ne!(protocol.free_port().unwrap(), 0);
        }
    }
}
