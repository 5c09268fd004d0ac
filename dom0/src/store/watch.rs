//! Watches: who wants to hear of which changes, and the events that wait for them.

use alloc::{collections::VecDeque, rc::Rc, vec::Vec};

use abi::{DomId, Errno};

use super::{
    path::Path,
    tree::{Change, Tree},
};

/// Something to watch that is not a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A domain was introduced.
    IntroduceDomain,
    /// A domain shut down or was released.
    ReleaseDomain,
}

impl Special {
    const fn name(self) -> &'static str {
        match self {
            Special::IntroduceDomain => "@introduceDomain",
            Special::ReleaseDomain => "@releaseDomain",
        }
    }
}

/// What an event is about, in the form in which the watch was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A node.
    Absolute(Path),
    /// A node, to be named relative to the watcher's own directory.
    Relative(Path),
    /// Not a node.
    Special(Special),
}

impl Subject {
    /// Reads what a client sent. Only dom0 may watch what is not a node (`EACCES`).
    pub fn parse(text: &[u8], client: DomId) -> Result<Subject, Errno> {
        if text.first() == Some(&b'@') {
            let special = [Special::IntroduceDomain, Special::ReleaseDomain]
                .into_iter()
                .find(|special| special.name().as_bytes() == text)
                .ok_or(Errno::EINVAL)?;
            return if client == DomId::DOM0 {
                Ok(Subject::Special(special))
            } else {
                Err(Errno::EACCES)
            };
        }
        let path = Path::parse(text, client)?;
        let absolute = text.first() == Some(&b'/');
        Ok(if absolute { Subject::Absolute(path) } else { Subject::Relative(path) })
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Subject::Absolute(path) | Subject::Relative(path) => Some(path),
            Subject::Special(_) => None,
        }
    }

    /// The same form for another node.
    fn about(&self, path: Path) -> Subject {
        match self {
            Subject::Relative(_) => Subject::Relative(path),
            Subject::Absolute(_) | Subject::Special(_) => Subject::Absolute(path),
        }
    }

    /// The text that `watcher` is sent.
    fn text(&self, watcher: DomId) -> &str {
        match self {
            Subject::Absolute(path) => path.as_str(),
            Subject::Relative(path) => {
                Path::of_domain(watcher).relative(path).unwrap_or(path.as_str())
            }
            Subject::Special(special) => special.name(),
        }
    }
}

/// One registration, and also one event: the subject is then what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What is watched, or what changed.
    pub subject: Subject,
    /// The client's own name for the watch.
    pub token: Rc<[u8]>,
}

impl Watch {
    /// Bytes that a registration costs.
    pub fn size(&self) -> usize {
        let path = self.subject.path().map_or(0, |path| path.as_str().len());
        path.saturating_add(self.token.len())
    }

    /// The payload of the event message.
    pub fn payload(&self, watcher: DomId) -> Vec<u8> {
        [self.subject.text(watcher).as_bytes(), &[0], &self.token, &[0]].concat()
    }

    /// The event by which `watcher` hears of a change, if this watch covers it and the watcher
    /// may know of it. `tree` is the state after the change.
    fn event(&self, watcher: DomId, change: &Change, tree: &Tree) -> Option<Watch> {
        let watched = self.subject.path()?;
        let path = if watched.relative(&change.path).is_some() {
            visible(watcher, change, tree).then_some(&change.path)
        } else if change.removed {
            let below = change.path.relative(watched)?;
            removed_visibly(watcher, change, below).then_some(watched)
        } else {
            None
        }?;
        Some(Watch { subject: self.subject.about(path.clone()), token: self.token.clone() })
    }
}

/// Whether a domain may know that the node changed: it could read it before, or can read it or
/// its parent now.
fn visible(watcher: DomId, change: &Change, tree: &Tree) -> bool {
    let readable = |path: &Path| tree.get(path).is_some_and(|node| node.readable_by(watcher));
    change.previous.as_ref().is_some_and(|node| node.readable_by(watcher))
        || readable(&change.path)
        || change.path.split_last().is_some_and(|(parent, _)| readable(&parent))
}

/// Whether a node existed below one that was removed, and the domain could read it or its parent.
fn removed_visibly(watcher: DomId, change: &Change, below: &str) -> bool {
    let Some(removed) = &change.previous else { return false };
    let Some(node) = removed.descend(below) else { return false };
    let parent = below.rsplit_once('/').map_or("", |(parent, _)| parent);
    node.readable_by(watcher)
        || removed.descend(parent).is_some_and(|parent| parent.readable_by(watcher))
}

/// The watches of one client and the events that it has not read yet.
#[derive(Debug, Default)]
pub struct Watches {
    registered: Vec<Watch>,
    events: VecDeque<Watch>,
}

impl Watches {
    /// Registers a watch, which fires at once. `EEXIST` if there is the same already.
    pub fn add(&mut self, watch: Watch, limit: usize) -> Result<(), Errno> {
        if self.registered.contains(&watch) {
            return Err(Errno::EEXIST);
        }
        queue(&mut self.events, watch.clone(), &watch, limit);
        self.registered.push(watch);
        Ok(())
    }

    /// Forgets a watch, and those of its events that cannot be another's. `ENOENT` if there is
    /// no such watch.
    pub fn remove(&mut self, watch: &Watch) -> Result<(), Errno> {
        let position = self.registered.iter().position(|other| other == watch);
        self.registered.remove(position.ok_or(Errno::ENOENT)?);
        let shared = self.registered.iter().any(|other| other.token == watch.token);
        self.events.retain(|event| event != watch && (shared || event.token != watch.token));
        Ok(())
    }

    /// How many are registered.
    pub fn count(&self) -> usize {
        self.registered.len()
    }

    /// Queues the events of a change. `tree` is the state after it.
    pub fn fire(&mut self, watcher: DomId, change: &Change, tree: &Tree, limit: usize) {
        for watch in &self.registered {
            if let Some(event) = watch.event(watcher, change, tree) {
                queue(&mut self.events, event, watch, limit);
            }
        }
    }

    /// Queues the events of something that is not a node.
    pub fn fire_special(&mut self, special: Special, limit: usize) {
        for watch in &self.registered {
            if watch.subject == Subject::Special(special) {
                queue(&mut self.events, watch.clone(), watch, limit);
            }
        }
    }

    /// Whether an event waits.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The oldest event that was not taken yet.
    pub fn take_event(&mut self) -> Option<Watch> {
        self.events.pop_front()
    }
}

/// Queues an event unless it waits there already: one reading serves both. When `limit` events
/// wait, the watch itself stands for whatever changed below it, so that the queue never holds
/// more than the limit and one event for each watch.
fn queue(events: &mut VecDeque<Watch>, event: Watch, watch: &Watch, limit: usize) {
    let event = if events.len() < limit { event } else { watch.clone() };
    if !events.contains(&event) {
        events.push_back(event);
    }
}
