//! The tree of nodes: an immutable structure that shares what did not change between versions, so
//! that a snapshot costs nothing and a transaction is just another version.

use alloc::{
    collections::{BTreeMap, btree_map::Entry},
    rc::Rc,
    vec::Vec,
};

use abi::{DomId, Errno, xenstore::Access};

use super::{
    path::Path,
    permissions::Permissions,
    quota::{Quota, Quotas},
};

/// Bytes that a node is taken to cost beside its name and its value.
const NODE_OVERHEAD: usize = 128;

/// A version of a node: two equal ones mean that value, permissions and names of children are the
/// same. Never used twice in the history of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// One node with everything below it.
#[derive(Debug, Clone)]
pub struct Node {
    value: Rc<[u8]>,
    permissions: Permissions,
    generation: Generation,
    children: BTreeMap<Rc<str>, Rc<Node>>,
}

impl Node {
    fn new(permissions: Permissions, generation: Generation) -> Node {
        Node { value: Rc::new([]), permissions, generation, children: BTreeMap::new() }
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The permissions.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Which version this is.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The names of the children, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.keys().map(Rc::as_ref)
    }

    /// The node at a relative path below this one; this one if it is empty.
    pub fn descend(&self, relative: &str) -> Option<&Node> {
        relative
            .split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| node.children.get(name).map(Rc::as_ref))
    }

    /// Whether `domid` may read this node.
    pub fn readable_by(&self, domid: DomId) -> bool {
        self.permissions.allow(domid, Access::Read)
    }
}

/// Something that a client wants to be different.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Set the value, creating the node and its parents as needed.
    Write(Path, Rc<[u8]>),
    /// Create the node and its parents as needed.
    Mkdir(Path),
    /// Remove the node and all below it.
    Remove(Path),
    /// Replace the permissions.
    SetPermissions(Path, Permissions),
}

impl Mutation {
    /// The node in question.
    pub fn path(&self) -> &Path {
        match self {
            Mutation::Write(path, _)
            | Mutation::Mkdir(path)
            | Mutation::Remove(path)
            | Mutation::SetPermissions(path, _) => path,
        }
    }
}

/// Something that became different: what watches are told.
#[derive(Debug)]
pub struct Change {
    /// The node that was written, created, removed or given other permissions.
    pub path: Path,
    /// What it was before, if it was there.
    pub previous: Option<Rc<Node>>,
    /// Whether it is gone, and all below it.
    pub removed: bool,
}

/// What the nodes of one domain amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    nodes: usize,
    bytes: usize,
}

/// One version of the whole tree. Cloning takes a snapshot.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Rc<Node>,
    last: Generation,
    usage: BTreeMap<DomId, Usage>,
}

/// Only the root, which is private to dom0: what dom0 does not share, nobody sees.
impl Default for Tree {
    fn default() -> Tree {
        let permissions = Permissions::new(DomId::DOM0, Access::None);
        let root = Rc::new(Node::new(permissions, Generation(0)));
        let usage = Usage { nodes: 1, bytes: node_cost("", &[]) };
        Tree { root, last: Generation(0), usage: BTreeMap::from([(DomId::DOM0, usage)]) }
    }
}

impl Tree {
    /// The node, whoever may see it.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.names()
            .try_fold(self.root.as_ref(), |node, name| node.children.get(name).map(Rc::as_ref))
    }

    /// The node, if `caller` has the access that it needs. If the node is missing, the nearest
    /// ancestor decides whether the caller may learn that (`ENOENT`) or not (`EACCES`).
    pub fn authorize(&self, caller: DomId, path: &Path, needed: Access) -> Result<&Node, Errno> {
        let (nearest, missing) = self.nearest(path);
        if !nearest.permissions.allow(caller, needed) {
            return Err(Errno::EACCES);
        }
        if missing == 0 { Ok(nearest) } else { Err(Errno::ENOENT) }
    }

    /// The deepest node that exists on the way to a path, and how many names are missing after it.
    fn nearest(&self, path: &Path) -> (&Node, usize) {
        let mut node = self.root.as_ref();
        let mut names = path.names();
        while let Some(name) = names.next() {
            match node.children.get(name) {
                Some(child) => node = child,
                None => return (node, names.count().saturating_add(1)),
            }
        }
        (node, 0)
    }

    /// Does it, or fails and leaves everything as it was. `Ok(None)`: there was nothing to do.
    pub fn apply(
        &mut self,
        caller: DomId,
        mutation: &Mutation,
        quotas: &Quotas,
    ) -> Result<Option<Change>, Errno> {
        match mutation {
            Mutation::Write(path, value) => self.write(caller, path, value, quotas).map(Some),
            Mutation::Mkdir(path) => self.mkdir(caller, path, quotas),
            Mutation::Remove(path) => self.remove(caller, path),
            Mutation::SetPermissions(path, permissions) => {
                self.set_permissions(caller, path, permissions, quotas).map(Some)
            }
        }
    }

    fn write(
        &mut self,
        caller: DomId,
        path: &Path,
        value: &Rc<[u8]>,
        quotas: &Quotas,
    ) -> Result<Change, Errno> {
        if caller != DomId::DOM0 && value.len() > quotas.node_size {
            return Err(quotas.exceed(Quota::NodeSize));
        }
        match self.authorize(caller, path, Access::Write) {
            Ok(node) => {
                let (owner, before) = (node.permissions.owner(), node.value.len());
                let growth = value.len().saturating_sub(before);
                self.admit(caller, owner, Usage { nodes: 0, bytes: growth }, quotas)?;
                self.discharge(owner, Usage { nodes: 0, bytes: before });
            }
            Err(Errno::ENOENT) => self.create(caller, path, value.len(), quotas)?,
            Err(error) => return Err(error),
        }
        let generation = self.next_generation();
        let node = self.node_mut(path).ok_or(Errno::ENOENT)?;
        node.value = value.clone();
        node.generation = generation;
        let owner = node.permissions.owner();
        self.charge(owner, Usage { nodes: 0, bytes: value.len() });
        Ok(Change { path: path.clone(), previous: None, removed: false })
    }

    fn mkdir(
        &mut self,
        caller: DomId,
        path: &Path,
        quotas: &Quotas,
    ) -> Result<Option<Change>, Errno> {
        match self.authorize(caller, path, Access::Write) {
            Ok(_) => Ok(None),
            Err(Errno::ENOENT) => {
                self.create(caller, path, 0, quotas)?;
                Ok(Some(Change { path: path.clone(), previous: None, removed: false }))
            }
            Err(error) => Err(error),
        }
    }

    /// Creates every node that is missing on the way to `path`, all with empty values; fails
    /// before it touches anything if the owner cannot pay for them and `extra` bytes besides.
    fn create(
        &mut self,
        caller: DomId,
        path: &Path,
        extra: usize,
        quotas: &Quotas,
    ) -> Result<(), Errno> {
        let (nearest, missing) = self.nearest(path);
        let permissions = nearest.permissions.inherited_by(caller);
        let skipped = path.names().count().saturating_sub(missing);
        let cost = path.names().skip(skipped).fold(Usage::default(), |sum, name| Usage {
            nodes: sum.nodes.saturating_add(1),
            bytes: sum.bytes.saturating_add(node_cost(name, &[])),
        });
        let needed = Usage { bytes: cost.bytes.saturating_add(extra), ..cost };
        self.admit(caller, permissions.owner(), needed, quotas)?;
        self.charge(permissions.owner(), cost);

        let generation = self.next_generation();
        let mut node = Rc::make_mut(&mut self.root);
        for name in path.names() {
            node = match node.children.entry(name.into()) {
                Entry::Occupied(child) => Rc::make_mut(child.into_mut()),
                Entry::Vacant(place) => {
                    node.generation = generation;
                    let child = Node::new(permissions.clone(), generation);
                    Rc::make_mut(place.insert(Rc::new(child)))
                }
            };
        }
        Ok(())
    }

    fn remove(&mut self, caller: DomId, path: &Path) -> Result<Option<Change>, Errno> {
        let (parent, name) = path.split_last().ok_or(Errno::EINVAL)?;
        match self.authorize(caller, path, Access::Write) {
            Ok(_) => {}
            Err(Errno::ENOENT) if self.get(&parent).is_some() => return Ok(None),
            Err(error) => return Err(error),
        }
        let generation = self.next_generation();
        let parent = self.node_mut(&parent).ok_or(Errno::ENOENT)?;
        let previous = parent.children.remove(name).ok_or(Errno::ENOENT)?;
        parent.generation = generation;
        self.discharge_all(name, &previous);
        Ok(Some(Change { path: path.clone(), previous: Some(previous), removed: true }))
    }

    fn set_permissions(
        &mut self,
        caller: DomId,
        path: &Path,
        permissions: &Permissions,
        quotas: &Quotas,
    ) -> Result<Change, Errno> {
        let node = self.authorize(caller, path, Access::Write)?;
        let owner = node.permissions.owner();
        if caller != DomId::DOM0 {
            if caller != owner {
                return Err(Errno::EACCES);
            }
            if permissions.owner() != owner {
                return Err(Errno::EPERM);
            }
            if permissions.count() > quotas.permissions {
                return Err(quotas.exceed(Quota::Permissions));
            }
        }
        let name = path.names().last().unwrap_or_default();
        let cost = Usage { nodes: 1, bytes: node_cost(name, &node.value) };
        let previous = Some(Rc::new(node.clone()));
        self.discharge(owner, cost);
        self.charge(permissions.owner(), cost);
        let generation = self.next_generation();
        let node = self.node_mut(path).ok_or(Errno::ENOENT)?;
        node.permissions = permissions.clone();
        node.generation = generation;
        Ok(Change { path: path.clone(), previous, removed: false })
    }

    /// What dom0 has to do so that nothing of a dead domain remains: its nodes go, and so do
    /// exceptions that name it, lest a later domain with its number inherits them.
    pub fn forget(&self, domid: DomId) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        for (name, child) in &self.root.children {
            forget_below(domid, &Path::root().child(name), child, &mut mutations);
        }
        mutations
    }

    fn next_generation(&mut self) -> Generation {
        self.last = Generation(self.last.0.wrapping_add(1));
        self.last
    }

    fn node_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.names().try_fold(Rc::make_mut(&mut self.root), |node, name| {
            node.children.get_mut(name).map(Rc::make_mut)
        })
    }

    /// Whether `owner` can pay for more, if it is an ordinary domain that asks. What an ordinary
    /// domain writes into a node of dom0 is bounded by the node's size.
    fn admit(
        &self,
        caller: DomId,
        owner: DomId,
        more: Usage,
        quotas: &Quotas,
    ) -> Result<(), Errno> {
        if caller == DomId::DOM0 || owner == DomId::DOM0 {
            return Ok(());
        }
        let used = self.usage.get(&owner).copied().unwrap_or_default();
        if used.nodes.saturating_add(more.nodes) > quotas.nodes {
            return Err(quotas.exceed(Quota::Nodes));
        }
        if used.bytes.saturating_add(more.bytes) > quotas.bytes {
            return Err(quotas.exceed(Quota::Bytes));
        }
        Ok(())
    }

    fn charge(&mut self, owner: DomId, cost: Usage) {
        let used = self.usage.entry(owner).or_default();
        used.nodes = used.nodes.saturating_add(cost.nodes);
        used.bytes = used.bytes.saturating_add(cost.bytes);
    }

    fn discharge(&mut self, owner: DomId, cost: Usage) {
        if let Entry::Occupied(mut entry) = self.usage.entry(owner) {
            let used = entry.get_mut();
            used.nodes = used.nodes.saturating_sub(cost.nodes);
            used.bytes = used.bytes.saturating_sub(cost.bytes);
            if *used == Usage::default() {
                entry.remove();
            }
        }
    }

    fn discharge_all(&mut self, name: &str, node: &Node) {
        let cost = Usage { nodes: 1, bytes: node_cost(name, &node.value) };
        self.discharge(node.permissions.owner(), cost);
        for (name, child) in &node.children {
            self.discharge_all(name, child);
        }
    }
}

fn node_cost(name: &str, value: &[u8]) -> usize {
    NODE_OVERHEAD.saturating_add(name.len()).saturating_add(value.len())
}

fn forget_below(domid: DomId, path: &Path, node: &Node, mutations: &mut Vec<Mutation>) {
    if node.permissions.owner() == domid {
        mutations.push(Mutation::Remove(path.clone()));
        return;
    }
    if node.permissions.mentions(domid) {
        let permissions = node.permissions.clone().without(domid);
        mutations.push(Mutation::SetPermissions(path.clone(), permissions));
    }
    for (name, child) in &node.children {
        forget_below(domid, &path.child(name), child, mutations);
    }
}

#[cfg(test)]
mod tests {
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;

    fn usage_below(name: &str, node: &Node, sum: &mut BTreeMap<DomId, Usage>) {
        let used = sum.entry(node.permissions.owner()).or_default();
        used.nodes += 1;
        used.bytes += node_cost(name, &node.value);
        for (name, child) in &node.children {
            usage_below(name, child, sum);
        }
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let path = proptest::collection::vec("[ab]", 1..5).prop_map(|names| {
            Path::parse(format!("/{}", names.join("/")).as_bytes(), DomId::DOM0).unwrap()
        });
        (path, 0..5u8, 0..4u16, 0..40usize).prop_map(|(path, kind, owner, size)| match kind {
            0 => Mutation::Remove(path),
            1 => Mutation::Mkdir(path),
            2 => Mutation::SetPermissions(path, Permissions::new(DomId(owner), Access::Both)),
            _ => Mutation::Write(path, vec![0; size].into()),
        })
    }

    proptest! {
        /// What quotas are checked against is what the tree holds, a failed mutation leaves no
        /// trace, and snapshots stay as they were.
        #[test]
        fn usage_is_exact_and_mutations_are_atomic(
            mutations in proptest::collection::vec((0..4u16, mutation()), 0..60),
        ) {
            let quotas = Quotas { nodes: 4, bytes: 800, node_size: 30, ..Quotas::default() };
            let mut tree = Tree::default();
            let everybody = Permissions::new(DomId::DOM0, Access::Both);
            let open = Mutation::SetPermissions(Path::root(), everybody);
            tree.apply(DomId::DOM0, &open, &quotas).unwrap();
            for (caller, mutation) in mutations {
                let (snapshot, before) = (tree.clone(), format!("{:?}", tree.root));
                let result = tree.apply(DomId(caller), &mutation, &quotas);
                if !matches!(result, Ok(Some(_))) {
                    prop_assert_eq!(&before, &format!("{:?}", tree.root));
                }
                prop_assert_eq!(before, format!("{:?}", snapshot.root));
                let mut expected = BTreeMap::new();
                usage_below("", &tree.root, &mut expected);
                prop_assert_eq!(&tree.usage, &expected);
            }
        }
    }
}
