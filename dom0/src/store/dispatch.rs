//! The store without its connections: clients' requests in, answers and events out.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    vec::Vec,
};

use abi::{
    DomId, Errno,
    xenstore::{Access, Header, MessageType},
};

use super::{
    message::{self, Completion, Request},
    path::Path,
    quota::{Quota, Quotas},
    transaction::Transaction,
    tree::{Change, Mutation, Node, Tree},
    watch::{Special, Watch, Watches},
};

/// What the store knows of one client.
#[derive(Debug, Default)]
struct Client {
    watches: Watches,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    /// Quotas of which the log has said that the client exceeded them.
    told: BTreeSet<Quota>,
}

impl Client {
    fn transaction(&mut self, id: u32) -> Result<&mut Transaction, Errno> {
        self.transactions.get_mut(&id).ok_or(Errno::ENOENT)
    }

    fn next_transaction(&mut self) -> u32 {
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            let id = self.last_transaction;
            if id != 0 && !self.transactions.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The tree and its clients.
#[derive(Debug, Default)]
pub struct Store {
    tree: Tree,
    quotas: Quotas,
    clients: BTreeMap<DomId, Client>,
}

impl Store {
    /// An empty store.
    pub fn new(quotas: Quotas) -> Store {
        Store { quotas, ..Store::default() }
    }

    /// Takes a domain as a client, forgetting what an earlier connection of it left behind.
    pub fn introduce(&mut self, domid: DomId) {
        self.clients.insert(domid, Client::default());
        self.announce(Special::IntroduceDomain);
    }

    /// Forgets a client with its watches and transactions, and with the nodes that it owned.
    /// `ENOENT` if it is not a client.
    pub fn release(&mut self, domid: DomId) -> Result<(), Errno> {
        self.clients.remove(&domid).ok_or(Errno::ENOENT)?;
        for mutation in self.tree.forget(domid) {
            // What `forget` lists exists, and dom0 may do it: there is no error to expect, and
            // one would leave a node behind, no more.
            let _ = self.mutate(DomId::DOM0, &mutation);
        }
        self.announce(Special::ReleaseDomain);
        Ok(())
    }

    /// Whether a domain is a client.
    pub fn is_introduced(&self, domid: DomId) -> bool {
        self.clients.contains_key(&domid)
    }

    /// Forgets a client's watches and transactions.
    pub fn reset(&mut self, domid: DomId) {
        if let Some(client) = self.clients.get_mut(&domid) {
            let told = core::mem::take(&mut client.told);
            *client = Client { told, ..Client::default() };
        }
    }

    /// Fires the watches of something that is not a node.
    pub fn announce(&mut self, special: Special) {
        for client in self.clients.values_mut() {
            client.watches.fire_special(special, self.quotas.events);
        }
    }

    /// Whether a client has an event to read.
    pub fn has_event(&self, domid: DomId) -> bool {
        self.clients.get(&domid).is_some_and(|client| client.watches.has_event())
    }

    /// The clients that have an event to read.
    pub fn clients_with_events(&self) -> impl Iterator<Item = DomId> {
        self.clients.iter().filter(|(_, client)| client.watches.has_event()).map(|(id, _)| *id)
    }

    /// The next event for a client, as a message.
    pub fn take_event(&mut self, domid: DomId) -> Option<Vec<u8>> {
        let event = self.clients.get_mut(&domid)?.watches.take_event()?;
        Some(message::event(domid, &event))
    }

    /// Serves one request and returns the message that answers it.
    pub fn serve(&mut self, domid: DomId, header: &Header, payload: &[u8]) -> Vec<u8> {
        let result = MessageType::from_raw(header.kind)
            .ok_or(Errno::ENOSYS)
            .and_then(|kind| Request::parse(kind, payload, domid))
            .and_then(|request| self.perform(domid, header.transaction, request));
        self.tell_quota(domid);
        message::answer(header, result)
    }

    /// Says in the log which quota the last request exceeded, the first time.
    fn tell_quota(&mut self, domid: DomId) {
        let Some(quota) = self.quotas.exceeded.take() else { return };
        let client = self.clients.get_mut(&domid);
        if client.is_some_and(|client| client.told.insert(quota)) {
            log::warn!("{domid} wants more of the store than {}", self.quotas.describe(quota));
        }
    }

    fn perform(
        &mut self,
        domid: DomId,
        transaction: u32,
        request: Request<'_>,
    ) -> Result<Vec<u8>, Errno> {
        match request {
            Request::Read(path) => {
                self.look(domid, transaction, &path, |node| Ok(node.value().into()))
            }
            Request::Directory(path) => self.look(domid, transaction, &path, message::directory),
            Request::DirectoryPart(path, offset) => self
                .look(domid, transaction, &path, |node| Ok(message::directory_part(node, offset))),
            Request::GetPermissions(path) => self.look(domid, transaction, &path, |node| {
                Ok(message::permissions(node.permissions()))
            }),
            Request::Mutate(mutation) if transaction == 0 => {
                self.mutate(domid, &mutation).map(done)
            }
            Request::Mutate(mutation) => {
                let client = self.clients.get_mut(&domid).ok_or(Errno::EIO)?;
                client.transaction(transaction)?.apply(domid, mutation, &self.quotas).map(done)
            }
            Request::Watch(watch) => self.watch(domid, watch).map(done),
            Request::Unwatch(watch) => self.client(domid)?.watches.remove(&watch).map(done),
            Request::ResetWatches => {
                self.reset(domid);
                Ok(done(()))
            }
            Request::TransactionStart => self.start(domid, transaction),
            Request::TransactionEnd(completion) => {
                self.end(domid, transaction, completion).map(done)
            }
            Request::GetDomainPath(other) => Ok(message::string(Path::of_domain(other).as_str())),
            Request::IsIntroduced(other) => {
                Ok(message::string(if self.is_introduced(other) { "T" } else { "F" }))
            }
            Request::Release(other) => self.release_by(domid, other).map(done),
            Request::Resume(other) => self.resume_by(domid, other).map(done),
            Request::Control(command) => control(domid, command),
        }
    }

    fn client(&mut self, domid: DomId) -> Result<&mut Client, Errno> {
        self.clients.get_mut(&domid).ok_or(Errno::EIO)
    }

    /// Reads something of a node, in the tree or in a transaction's view of it.
    fn look(
        &mut self,
        domid: DomId,
        transaction: u32,
        path: &Path,
        read: impl FnOnce(&Node) -> Result<Vec<u8>, Errno>,
    ) -> Result<Vec<u8>, Errno> {
        let Store { tree, quotas, clients } = self;
        let tree = if transaction == 0 {
            tree
        } else {
            let client = clients.get_mut(&domid).ok_or(Errno::EIO)?;
            client.transaction(transaction)?.look_at(domid, path, quotas)?
        };
        read(tree.authorize(domid, path, Access::Read)?)
    }

    fn mutate(&mut self, domid: DomId, mutation: &Mutation) -> Result<(), Errno> {
        if let Some(change) = self.tree.apply(domid, mutation, &self.quotas)? {
            self.fire(&change);
        }
        Ok(())
    }

    fn fire(&mut self, change: &Change) {
        for (watcher, client) in &mut self.clients {
            client.watches.fire(*watcher, change, &self.tree, self.quotas.events);
        }
    }

    fn watch(&mut self, domid: DomId, watch: Watch) -> Result<(), Errno> {
        let Quotas { watches, node_size, events, .. } = self.quotas;
        let count = self.client(domid)?.watches.count();
        if domid != DomId::DOM0 && (count >= watches || watch.size() > node_size) {
            return Err(self.quotas.exceed(Quota::Watches));
        }
        self.client(domid)?.watches.add(watch, events)
    }

    fn start(&mut self, domid: DomId, inside: u32) -> Result<Vec<u8>, Errno> {
        if inside != 0 {
            return Err(Errno::EBUSY);
        }
        let transaction = Transaction::new(&self.tree);
        let limit = self.quotas.transactions;
        if domid != DomId::DOM0 && self.client(domid)?.transactions.len() >= limit {
            return Err(self.quotas.exceed(Quota::Transactions));
        }
        let client = self.client(domid)?;
        let id = client.next_transaction();
        client.transactions.insert(id, transaction);
        Ok(message::string(&id.to_string()))
    }

    fn end(&mut self, domid: DomId, id: u32, completion: Completion) -> Result<(), Errno> {
        let transaction = self.client(domid)?.transactions.remove(&id).ok_or(Errno::ENOENT)?;
        if completion == Completion::Abort {
            return Ok(());
        }
        for change in transaction.commit(domid, &mut self.tree, &self.quotas)? {
            self.fire(&change);
        }
        Ok(())
    }

    fn release_by(&mut self, caller: DomId, domid: DomId) -> Result<(), Errno> {
        privileged(caller)?;
        if domid == DomId::DOM0 {
            return Err(Errno::EINVAL);
        }
        self.release(domid)
    }

    /// Nothing has to be done: the toolstack announces each shutdown of a domain anew.
    fn resume_by(&self, caller: DomId, domid: DomId) -> Result<(), Errno> {
        privileged(caller)?;
        if self.is_introduced(domid) { Ok(()) } else { Err(Errno::ENOENT) }
    }
}

fn privileged(caller: DomId) -> Result<(), Errno> {
    if caller == DomId::DOM0 { Ok(()) } else { Err(Errno::EACCES) }
}

/// The answer of requests that have nothing to tell.
fn done((): ()) -> Vec<u8> {
    message::string("OK")
}

/// The only command is the one that Xen promises: to list the commands.
fn control(caller: DomId, command: &[u8]) -> Result<Vec<u8>, Errno> {
    privileged(caller)?;
    if command == b"help" { Ok(message::string("help")) } else { Err(Errno::EINVAL) }
}
