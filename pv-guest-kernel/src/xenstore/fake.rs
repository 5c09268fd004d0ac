//! A store for tests: speaks the protocol over real rings, with any number of clients. It has no
//! permissions and no isolation of transactions.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use abi::Errno;
use abi::xenstore::{Header, MessageType, PAYLOAD_MAX};

use super::Client;
use super::ring::Ring;
use super::wire::{self, Decoder, Message};
use crate::event::Channel;
use crate::executor;
use crate::shared::SharedPage;

/// The store. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct FakeStore(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    tree: BTreeMap<String, String>,
    clients: Vec<Connection>,
    watches: Vec<Watch>,
    /// Commits to refuse.
    conflicts: u32,
    /// Every request, as its kind and first string.
    seen: Vec<(MessageType, String)>,
}

struct Connection {
    home: String,
    outgoing: Vec<u8>,
}

struct Watch {
    client: usize,
    given: String,
    path: String,
    token: String,
}

impl FakeStore {
    /// A client in this domain's place.
    pub(crate) fn connect(&self, domain: u16) -> Client {
        let page = SharedPage::allocate().unwrap();
        // Rings need not begin at zero.
        for offset in (2048..2064).step_by(4) {
            page.store_u32(offset, u32::MAX - 100, std::sync::atomic::Ordering::Relaxed);
        }
        let (near, far) = Channel::loopback().unwrap();
        let home = format!("/local/domain/{domain}");
        let client = {
            let mut state = self.0.borrow_mut();
            state.clients.push(Connection { home, outgoing: Vec::new() });
            state.clients.len() - 1
        };
        let store = self.clone();
        executor::spawn(store.serve(client, Ring::of_store(page.clone()), far)).detach();
        Client::new(page, near)
    }

    /// Writes keys as the toolstack would, all at once.
    pub(crate) fn set(&self, keys: &[(&str, &str)]) {
        let mut state = self.0.borrow_mut();
        for (key, value) in keys {
            state.tree.insert((*key).into(), (*value).into());
        }
        keys.iter().for_each(|(key, _)| state.fire(key));
    }

    /// Removes a directory as the toolstack would.
    pub(crate) fn remove(&self, path: &str) {
        self.0.borrow_mut().remove(path);
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        self.0.borrow().tree.get(path).cloned()
    }

    /// Lets so many commits fail.
    pub(crate) fn interfere(&self, conflicts: u32) {
        self.0.borrow_mut().conflicts = conflicts;
    }

    /// How many requests of a kind there were.
    pub(crate) fn count(&self, kind: MessageType) -> usize {
        self.0.borrow().seen.iter().filter(|(seen, _)| *seen == kind).count()
    }

    async fn serve(self, client: usize, ring: Ring, channel: Channel) {
        let mut decoder = Decoder::default();
        loop {
            let mut bytes = [0; 100];
            let count = ring.receive(&mut bytes).unwrap();
            decoder.feed(&bytes[..count]);
            while let Some(message) = decoder.next().unwrap() {
                self.0.borrow_mut().answer(client, &message);
            }
            let sent = {
                let mut state = self.0.borrow_mut();
                let outgoing = &mut state.clients[client].outgoing;
                let sent = ring.send(outgoing).unwrap();
                outgoing.drain(..sent);
                sent
            };
            if sent > 0 || count > 0 {
                channel.notify();
            }
            // Other clients' requests fire watches of this one.
            executor::yield_now().await;
            if sent == 0 && count == 0 && self.0.borrow().clients[client].outgoing.is_empty() {
                crate::time::sleep(std::time::Duration::from_micros(50)).await;
            }
        }
    }
}

impl State {
    fn answer(&mut self, client: usize, message: &Message) {
        let kind = MessageType::from_raw(message.header.kind).unwrap();
        let strings: Vec<&[u8]> = message.payload.split(|&byte| byte == 0).collect();
        let string = |index: usize| {
            strings.get(index).map(|text| String::from_utf8(text.to_vec()).unwrap()).unwrap()
        };
        self.seen.push((kind, string(0)));
        let (kind, payload) = match self.perform(client, kind, &string) {
            Ok(payload) if payload.len() <= PAYLOAD_MAX => (kind, payload),
            Ok(_) => (MessageType::Error, b"E2BIG\0".to_vec()),
            Err(error) => (MessageType::Error, [error.name().as_bytes(), b"\0"].concat()),
        };
        let Header { request, transaction, .. } = message.header;
        let answer = wire::encode(kind, request, transaction, &[&payload]).unwrap();
        self.clients[client].outgoing.extend(answer);
        if kind == MessageType::Watch {
            let watch = self.watches.len() - 1;
            self.send_event(watch, &self.watches[watch].path.clone());
        }
    }

    fn perform(
        &mut self,
        client: usize,
        kind: MessageType,
        string: &dyn Fn(usize) -> String,
    ) -> Result<Vec<u8>, Errno> {
        let path = match string(0) {
            path if path.starts_with(['/', '@']) => path,
            path => format!("{}/{path}", self.clients[client].home),
        };
        let done = || Ok(b"OK\0".to_vec());
        match kind {
            MessageType::Read => {
                Ok(self.tree.get(&path).ok_or(Errno::ENOENT)?.clone().into_bytes())
            }
            MessageType::Write => {
                self.tree.insert(path.clone(), string(1));
                self.fire(&path);
                done()
            }
            MessageType::Rm => {
                self.remove(&path);
                done()
            }
            MessageType::Directory => self.list(&path),
            MessageType::DirectoryPart => {
                let (names, offset) = (self.list(&path)?, string(1).parse().unwrap());
                let part: Vec<u8> = names.into_iter().skip(offset).take(1000).collect();
                let end: &[u8] = if part.len() < 1000 { b"\0" } else { b"" };
                Ok([b"7\0", part.as_slice(), end].concat())
            }
            MessageType::GetDomainPath => Ok(format!("/local/domain/{}\0", string(0)).into_bytes()),
            MessageType::GetPerms => {
                Ok(self.tree[&format!("{path}!")].replace(' ', "\0").into_bytes())
            }
            MessageType::SetPerms => {
                let entries: Vec<String> =
                    (1..).map(string).take_while(|s| !s.is_empty()).collect();
                self.tree.insert(format!("{path}!"), entries.join(" "));
                done()
            }
            MessageType::Watch => {
                let (given, token) = (string(0), string(1));
                self.watches.push(Watch { client, given, path, token });
                done()
            }
            MessageType::Unwatch => {
                let token = string(1);
                self.watches.retain(|watch| watch.client != client || watch.token != token);
                done()
            }
            MessageType::TransactionStart => Ok(b"5\0".to_vec()),
            MessageType::TransactionEnd if self.conflicts > 0 => {
                self.conflicts -= 1;
                Err(Errno::EAGAIN)
            }
            MessageType::TransactionEnd => done(),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let prefix = format!("{path}/");
        let below = self.tree.keys().filter_map(|key| key.strip_prefix(&prefix));
        let mut names: Vec<&str> = below.filter_map(|rest| rest.split('/').next()).collect();
        names.dedup();
        if names.is_empty() {
            return Err(Errno::ENOENT);
        }
        Ok(names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect())
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        let gone = |key: &str| key == path || key.starts_with(&below);
        self.tree.retain(|key, _| !gone(key));
        self.fire(path);
        let watched: Vec<String> =
            self.watches.iter().map(|watch| watch.path.clone()).filter(|path| gone(path)).collect();
        watched.iter().for_each(|path| self.fire(path));
    }

    fn fire(&mut self, path: &str) {
        for index in 0..self.watches.len() {
            let watched = &self.watches[index].path;
            if path == watched || path.starts_with(&format!("{watched}/")) {
                self.send_event(index, path);
            }
        }
    }

    fn send_event(&mut self, index: usize, path: &str) {
        let watch = &self.watches[index];
        let shown = path.replacen(&watch.path, &watch.given, 1);
        let payload = [shown.as_bytes(), b"\0", watch.token.as_bytes(), b"\0"];
        let event = wire::encode(MessageType::WatchEvent, 0, 0, &payload).unwrap();
        let client = watch.client;
        self.clients[client].outgoing.extend(event);
    }
}
