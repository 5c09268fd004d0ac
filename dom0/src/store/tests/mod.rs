//! The store as its clients see it, through the wire's messages but without rings.

mod model;
mod quotas;
mod rings;
mod semantics;
mod wire;

use std::{string::String, vec, vec::Vec};

use abi::{
    DomId, Errno,
    xenstore::{Header, MessageType},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{dispatch::Store, quota::Quotas};

pub(super) const DOM0: DomId = DomId(0);

/// A store and shorthands for its requests.
pub(super) struct Bench {
    pub(super) store: Store,
}

impl Bench {
    /// A store with these clients beside dom0, each with its directory as a toolstack makes it.
    pub(super) fn new(domains: &[u16]) -> Bench {
        Bench::with_quotas(domains, Quotas::default())
    }

    pub(super) fn with_quotas(domains: &[u16], quotas: Quotas) -> Bench {
        let mut bench = Bench { store: Store::new(quotas) };
        bench.store.introduce(DOM0);
        for &domain in domains {
            bench.store.introduce(DomId(domain));
            let home = std::format!("/local/domain/{domain}");
            bench.write(0, &home, "").unwrap();
            bench.set_permissions(0, &home, &[&std::format!("n{domain}")]).unwrap();
        }
        bench
    }

    pub(super) fn raw(
        &mut self,
        domain: u16,
        kind: MessageType,
        transaction: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let length = u32::try_from(payload.len()).unwrap();
        let header = Header { kind: kind.raw(), request: 77, transaction, length };
        let message = self.store.serve(DomId(domain), &header, payload);
        let (header, body) = split(&message);
        assert_eq!((header.request, header.transaction), (77, transaction));
        if header.kind == MessageType::Error.raw() {
            let name = std::str::from_utf8(body.strip_suffix(&[0]).unwrap()).unwrap();
            return Err(Errno::from_name(name).unwrap());
        }
        assert_eq!(header.kind, kind.raw());
        Ok(body.to_vec())
    }

    pub(super) fn strings(
        &mut self,
        domain: u16,
        kind: MessageType,
        transaction: u32,
        strings: &[&str],
    ) -> Result<Vec<u8>, Errno> {
        let payload: Vec<u8> =
            strings.iter().flat_map(|string| string.bytes().chain([0])).collect();
        self.raw(domain, kind, transaction, &payload)
    }

    pub(super) fn write_in(
        &mut self,
        domain: u16,
        transaction: u32,
        path: &str,
        value: &str,
    ) -> Result<(), Errno> {
        let payload = [path.as_bytes(), &[0], value.as_bytes()].concat();
        self.raw(domain, MessageType::Write, transaction, &payload).map(drop)
    }

    pub(super) fn write(&mut self, domain: u16, path: &str, value: &str) -> Result<(), Errno> {
        self.write_in(domain, 0, path, value)
    }

    pub(super) fn read_in(
        &mut self,
        domain: u16,
        transaction: u32,
        path: &str,
    ) -> Result<String, Errno> {
        let value = self.strings(domain, MessageType::Read, transaction, &[path])?;
        Ok(String::from_utf8(value).unwrap())
    }

    pub(super) fn read(&mut self, domain: u16, path: &str) -> Result<String, Errno> {
        self.read_in(domain, 0, path)
    }

    pub(super) fn mkdir(&mut self, domain: u16, path: &str) -> Result<(), Errno> {
        self.strings(domain, MessageType::Mkdir, 0, &[path]).map(drop)
    }

    pub(super) fn remove(&mut self, domain: u16, path: &str) -> Result<(), Errno> {
        self.strings(domain, MessageType::Rm, 0, &[path]).map(drop)
    }

    pub(super) fn directory(&mut self, domain: u16, path: &str) -> Result<Vec<String>, Errno> {
        self.strings(domain, MessageType::Directory, 0, &[path]).map(|names| texts(&names))
    }

    pub(super) fn permissions(&mut self, domain: u16, path: &str) -> Result<Vec<String>, Errno> {
        self.strings(domain, MessageType::GetPerms, 0, &[path]).map(|entries| texts(&entries))
    }

    pub(super) fn set_permissions(
        &mut self,
        domain: u16,
        path: &str,
        entries: &[&str],
    ) -> Result<(), Errno> {
        let strings = [&[path], entries].concat();
        self.strings(domain, MessageType::SetPerms, 0, &strings).map(drop)
    }

    pub(super) fn watch(&mut self, domain: u16, path: &str, token: &str) -> Result<(), Errno> {
        self.strings(domain, MessageType::Watch, 0, &[path, token]).map(drop)
    }

    /// Registers a watch and takes the event that it fires at once.
    pub(super) fn watch_quietly(&mut self, domain: u16, path: &str, token: &str) {
        self.watch(domain, path, token).unwrap();
        assert_eq!(self.events(domain), [(path.into(), token.into())]);
    }

    pub(super) fn start(&mut self, domain: u16) -> Result<u32, Errno> {
        let id = self.raw(domain, MessageType::TransactionStart, 0, &[0])?;
        Ok(texts(&id)[0].parse().unwrap())
    }

    pub(super) fn end(&mut self, domain: u16, id: u32, how: &str) -> Result<(), Errno> {
        self.strings(domain, MessageType::TransactionEnd, id, &[how]).map(drop)
    }

    /// All events that wait for a client, as path and token.
    pub(super) fn events(&mut self, domain: u16) -> Vec<(String, String)> {
        let mut events = vec![];
        while let Some(message) = self.store.take_event(DomId(domain)) {
            let (header, payload) = split(&message);
            assert_eq!(header.kind, MessageType::WatchEvent.raw());
            assert_eq!((header.request, header.transaction), (0, 0));
            let [path, token] = texts(payload).try_into().unwrap();
            events.push((path, token));
        }
        events
    }
}

pub(super) fn split(message: &[u8]) -> (Header, &[u8]) {
    let (header, payload) = message.split_at(Header::default().as_bytes().len());
    let header = Header::read_from_bytes(header).unwrap();
    assert_eq!(usize::try_from(header.length).unwrap(), payload.len());
    (header, payload)
}

/// The strings of a payload, each of which ends with NUL.
pub(super) fn texts(payload: &[u8]) -> Vec<String> {
    match payload.strip_suffix(&[0]) {
        None => {
            assert!(payload.is_empty());
            vec![]
        }
        Some(body) => body
            .split(|&byte| byte == 0)
            .map(|text| String::from_utf8(text.to_vec()).unwrap())
            .collect(),
    }
}
