//! The client of the store: the tree of names by which domains are configured and find each
//! other's devices.
//!
//! Requests of many tasks share the one connection; answers find their task by number. Paths that
//! do not begin with `/` are relative to this domain's own directory, `/local/domain/N`.
//!
//! ```text
//! tasks --> Client --> Session (who waits for what) --> mover task --> Ring (shared page)
//! ```

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str::FromStr;

use abi::hvm::Index;
use abi::xenstore::{MessageType, Permission};
use abi::{DomId, Errno, Port};

use crate::event::Channel;
use crate::shared::SharedPage;
use crate::{executor, hypercall};

mod control;
mod mover;
mod ring;
mod session;
mod transaction;
mod watch;
mod wire;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use watch::Watch;

use session::Shared;
use wire::TransactionId;

/// A connection to the store, or the view of it from within a transaction. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    session: Shared,
    transaction: TransactionId,
}

impl Client {
    /// Connects over a ring. Its indices may have any value that is possible.
    pub fn new(page: SharedPage, channel: Channel) -> Client {
        let session = Shared::default();
        executor::spawn(mover::run(session.clone(), ring::Ring::new(page), channel)).detach();
        Client { session, transaction: 0 }
    }

    /// Connects a guest over the ring that its toolstack made, and obeys the toolstack's
    /// `control/shutdown` from then on.
    ///
    /// # Errors
    /// `ENODEV` if this domain has no store; what the monitor answers.
    pub fn for_guest() -> Result<Client, Errno> {
        let page = SharedPage::from_parameter(Index::StorePfn)?.ok_or(Errno::ENODEV)?;
        let port = hypercall::hvm::parameter(DomId::SELF, Index::StoreEvtchn)?;
        let channel = Channel::adopt(Port(u32::try_from(port).map_err(|_| Errno::EINVAL)?))?;
        let client = Client::new(page, channel);
        executor::spawn(control::obey(client.clone())).detach();
        Ok(client)
    }

    async fn call(&self, kind: MessageType, parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        session::exchange(&self.session, kind, self.transaction, parts).await
    }

    async fn call_path(&self, kind: MessageType, path: &str) -> Result<Vec<u8>, Errno> {
        self.call(kind, &[path.as_bytes(), b"\0"]).await
    }

    /// A key's value.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`; `EINVAL` if it is not text; `EIO` if the connection is broken. The same
    /// goes for all operations.
    pub async fn read(&self, path: &str) -> Result<String, Errno> {
        wire::text(&self.call_path(MessageType::Read, path).await?)
    }

    /// A key's value as something else than text: a number, for example.
    ///
    /// # Errors
    /// As for [`Client::read`]; `EINVAL` if the text is not one.
    pub async fn read_as<T: FromStr>(&self, path: &str) -> Result<T, Errno> {
        self.read(path).await?.trim().parse().map_err(|_| Errno::EINVAL)
    }

    /// Sets a key's value and makes the key if there is none, with its parents.
    ///
    /// # Errors
    /// `EACCES`; `ENOSPC` beyond the domain's quota; `E2BIG` beyond the protocol's 4096 bytes.
    pub async fn write(&self, path: &str, value: &str) -> Result<(), Errno> {
        let parts = [path.as_bytes(), b"\0", value.as_bytes()];
        self.call(MessageType::Write, &parts).await.map(drop)
    }

    /// Makes a key without a value; one that is there stays as it is.
    ///
    /// # Errors
    /// As for [`Client::write`].
    pub async fn mkdir(&self, path: &str) -> Result<(), Errno> {
        self.call_path(MessageType::Mkdir, path).await.map(drop)
    }

    /// Removes a key and all that is below it.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`.
    pub async fn remove(&self, path: &str) -> Result<(), Errno> {
        self.call_path(MessageType::Rm, path).await.map(drop)
    }

    /// The names of the keys right below this one.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`.
    pub async fn directory(&self, path: &str) -> Result<Vec<String>, Errno> {
        match self.call_path(MessageType::Directory, path).await {
            Ok(names) => wire::strings(&names),
            // More than fits in one message.
            Err(Errno::E2BIG) => self.long_directory(path).await,
            Err(error) => Err(error),
        }
    }

    /// Reads a directory in parts. Each begins with the directory's generation: if that changes,
    /// the parts do not belong together.
    async fn long_directory(&self, path: &str) -> Result<Vec<String>, Errno> {
        let mut names: Vec<u8> = Vec::new();
        let mut generation = None;
        loop {
            let offset = names.len().to_string();
            let parts = [path.as_bytes(), b"\0", offset.as_bytes(), b"\0"];
            let part = self.call(MessageType::DirectoryPart, &parts).await?;
            let end = part.iter().position(|&byte| byte == 0).ok_or(Errno::EIO)?;
            let (this, rest) = part.split_at(end);
            if generation.get_or_insert_with(|| this.to_vec()) != this {
                return Err(Errno::EAGAIN);
            }
            // An empty name, so a second NUL, ends the last part.
            match rest.strip_suffix(b"\0\0") {
                Some(rest) => {
                    names.extend(rest.get(1..).unwrap_or_default());
                    return wire::strings(&names);
                }
                None => names.extend(rest.get(1..).unwrap_or_default()),
            }
        }
    }

    /// Who may do what with a key; the first entry is the owner's.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`.
    pub async fn get_permissions(&self, path: &str) -> Result<Vec<Permission>, Errno> {
        let entries = wire::strings(&self.call_path(MessageType::GetPerms, path).await?)?;
        entries.iter().map(|entry| Permission::parse(entry).ok_or(Errno::EINVAL)).collect()
    }

    /// Sets who may do what with a key. The first entry names the owner, and what those may do
    /// who are not listed.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`.
    pub async fn set_permissions(
        &self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), Errno> {
        let mut payload = [path.as_bytes(), b"\0"].concat();
        for permission in permissions {
            payload.extend(permission.to_string().bytes());
            payload.push(0);
        }
        self.call(MessageType::SetPerms, &[&payload]).await.map(drop)
    }

    /// The directory of a domain: `/local/domain/N`.
    ///
    /// # Errors
    /// If the connection is broken.
    pub async fn domain_path(&self, domain: DomId) -> Result<String, Errno> {
        let number = domain.0.to_string();
        wire::text(&self.call_path(MessageType::GetDomainPath, &number).await?)
    }
}
