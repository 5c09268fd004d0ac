//! The wire format: requests as types, answers and events as bytes.

use alloc::{string::ToString, vec::Vec};

use abi::{
    DomId, Errno,
    xenstore::{Header, MessageType, PAYLOAD_MAX},
};
use zerocopy::IntoBytes;

use super::{
    path::Path,
    permissions::{Permissions, parse_domain},
    tree::{Mutation, Node},
    watch::{Subject, Watch},
};

/// What a client asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// The value of a node.
    Read(Path),
    /// The names of its children.
    Directory(Path),
    /// As many of them as fit, from a position in the list.
    DirectoryPart(Path, usize),
    /// Its permissions.
    GetPermissions(Path),
    /// Change the tree.
    Mutate(Mutation),
    /// Register a watch.
    Watch(Watch),
    /// Forget it.
    Unwatch(Watch),
    /// Forget all the client's watches and transactions.
    ResetWatches,
    /// Begin a transaction.
    TransactionStart,
    /// Commit it, or drop it.
    TransactionEnd(Completion),
    /// The directory of a domain.
    GetDomainPath(DomId),
    /// Whether a domain has a connection.
    IsIntroduced(DomId),
    /// End the connection of a domain (dom0).
    Release(DomId),
    /// A domain that was shut down lives again (dom0).
    Resume(DomId),
    /// A command to the store itself (dom0).
    Control(&'a [u8]),
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Its changes become true.
    Commit,
    /// Nothing happened.
    Abort,
}

impl<'a> Request<'a> {
    /// Reads the payload of a request of this kind. `ENOSYS`: not a request that this store
    /// serves; `EINVAL`, `E2BIG`: not the payload that it must have.
    pub fn parse(
        kind: MessageType,
        payload: &'a [u8],
        client: DomId,
    ) -> Result<Request<'a>, Errno> {
        let path = || Path::parse(single(payload)?, client);
        let domain = || parse_domain(single(payload)?);
        Ok(match kind {
            MessageType::Read => Request::Read(path()?),
            MessageType::Directory => Request::Directory(path()?),
            MessageType::DirectoryPart => {
                let [text, offset] = pair(payload)?;
                Request::DirectoryPart(Path::parse(text, client)?, number(offset)?)
            }
            MessageType::GetPerms => Request::GetPermissions(path()?),
            MessageType::Write => {
                let (text, value) = first(payload)?;
                Request::Mutate(Mutation::Write(Path::parse(text, client)?, value.into()))
            }
            MessageType::Mkdir => Request::Mutate(Mutation::Mkdir(path()?)),
            MessageType::Rm => Request::Mutate(Mutation::Remove(path()?)),
            MessageType::SetPerms => {
                let (text, rest) = first(payload)?;
                let permissions = Permissions::parse(strings(rest)?)?;
                let path = Path::parse(text, client)?;
                Request::Mutate(Mutation::SetPermissions(path, permissions))
            }
            MessageType::Watch => Request::Watch(watch(payload, client)?),
            MessageType::Unwatch => Request::Unwatch(watch(payload, client)?),
            MessageType::ResetWatches => Request::ResetWatches,
            MessageType::TransactionStart => Request::TransactionStart,
            MessageType::TransactionEnd => Request::TransactionEnd(match single(payload)? {
                b"T" => Completion::Commit,
                b"F" => Completion::Abort,
                _ => return Err(Errno::EINVAL),
            }),
            MessageType::GetDomainPath => Request::GetDomainPath(domain()?),
            MessageType::IsDomainIntroduced => Request::IsIntroduced(domain()?),
            MessageType::Release => Request::Release(domain()?),
            MessageType::Resume => Request::Resume(domain()?),
            MessageType::Control => Request::Control(first(payload)?.0),
            // The toolstack hands over a domain's page and channel by a call, as it lives in the
            // same address space; device models, for which SET_TARGET is, there are none.
            MessageType::Introduce | MessageType::SetTarget => return Err(Errno::ENOSYS),
            MessageType::WatchEvent | MessageType::Error => return Err(Errno::ENOSYS),
        })
    }
}

/// Splits at the first NUL, which must be there.
fn first(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    let (text, rest) = payload.split_at(end);
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// The payload as exactly one string.
fn single(payload: &[u8]) -> Result<&[u8], Errno> {
    let (text, rest) = first(payload)?;
    if rest.is_empty() { Ok(text) } else { Err(Errno::EINVAL) }
}

/// The payload as two strings; what follows is reserved by the protocol.
fn pair(payload: &[u8]) -> Result<[&[u8]; 2], Errno> {
    let (one, rest) = first(payload)?;
    Ok([one, first(rest)?.0])
}

/// The payload as strings that each end with NUL.
fn strings(payload: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Errno> {
    let body = payload.strip_suffix(&[0]).ok_or(Errno::EINVAL)?;
    Ok(body.split(|&byte| byte == 0))
}

fn number(text: &[u8]) -> Result<usize, Errno> {
    core::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Errno::EINVAL)
}

fn watch(payload: &[u8], client: DomId) -> Result<Watch, Errno> {
    let [subject, token] = pair(payload)?;
    Ok(Watch { subject: Subject::parse(subject, client)?, token: token.into() })
}

/// The payload that names the children of a node, each with a NUL. `E2BIG` if they do not fit.
pub fn directory(node: &Node) -> Result<Vec<u8>, Errno> {
    let list = name_list(node);
    if list.len() <= PAYLOAD_MAX { Ok(list) } else { Err(Errno::E2BIG) }
}

/// The payload that names as many children as fit, from a position in the list on; an empty name
/// marks the end. It begins with the node's version, by which the client knows whether the parts
/// belong together.
pub fn directory_part(node: &Node, offset: usize) -> Vec<u8> {
    let mut payload = string(&node.generation().0.to_string());
    let list = name_list(node);
    let rest = list.get(offset..).unwrap_or_default();
    let room = PAYLOAD_MAX.saturating_sub(payload.len()).saturating_sub(1);
    for name in rest.split_inclusive(|&byte| byte == 0) {
        if payload.len().saturating_add(name.len()) > room {
            return payload;
        }
        payload.extend_from_slice(name);
    }
    payload.push(0);
    payload
}

fn name_list(node: &Node) -> Vec<u8> {
    node.names().flat_map(|name| name.bytes().chain([0])).collect()
}

/// The payload that states permissions.
pub fn permissions(permissions: &Permissions) -> Vec<u8> {
    permissions.entries().flat_map(|entry| string(&entry.to_string())).collect()
}

/// A payload of one string.
pub fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The message that answers a request.
pub fn answer(request: &Header, result: Result<Vec<u8>, Errno>) -> Vec<u8> {
    match result {
        Ok(payload) if payload.len() <= PAYLOAD_MAX => encode(request, request.kind, &payload),
        Ok(_) => answer(request, Err(Errno::E2BIG)),
        Err(error) => encode(request, MessageType::Error.raw(), &string(error.name())),
    }
}

/// The message that tells `watcher` of an event.
pub fn event(watcher: DomId, event: &Watch) -> Vec<u8> {
    encode(&Header::default(), MessageType::WatchEvent.raw(), &event.payload(watcher))
}

fn encode(request: &Header, kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let header = Header { kind, length, ..*request };
    [header.as_bytes(), payload].concat()
}
