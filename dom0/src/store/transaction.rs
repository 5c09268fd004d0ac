//! Transactions: a snapshot to work on, and a commit that fails if anything which the transaction
//! saw has changed since.

use alloc::{collections::BTreeSet, vec::Vec};

use abi::{DomId, Errno};

use super::{
    path::Path,
    quota::{Quota, Quotas},
    tree::{Change, Mutation, Tree},
};

/// Bytes that a remembered path or mutation is taken to cost beside its text.
const ENTRY_OVERHEAD: usize = 64;

/// One transaction of one client.
#[derive(Debug)]
pub struct Transaction {
    /// The tree when it began: what the versions of touched nodes are compared with.
    base: Tree,
    /// The tree as the client sees it.
    view: Tree,
    touched: BTreeSet<Path>,
    /// What the client wanted and what it was told.
    log: Vec<(Mutation, Result<(), Errno>)>,
    /// Bytes remembered in `touched` and `log`.
    size: usize,
}

impl Transaction {
    /// Begins with the present state of the tree.
    pub fn new(tree: &Tree) -> Transaction {
        Transaction {
            base: tree.clone(),
            view: tree.clone(),
            touched: BTreeSet::new(),
            log: Vec::new(),
            size: 0,
        }
    }

    /// The tree as this transaction sees it, to look at `path`, which must then not change before
    /// the commit.
    pub fn look_at(&mut self, caller: DomId, path: &Path, quotas: &Quotas) -> Result<&Tree, Errno> {
        self.touch(caller, path, quotas)?;
        Ok(&self.view)
    }

    /// Does it in this transaction's view.
    pub fn apply(
        &mut self,
        caller: DomId,
        mutation: Mutation,
        quotas: &Quotas,
    ) -> Result<(), Errno> {
        self.touch(caller, mutation.path(), quotas)?;
        let payload = match &mutation {
            Mutation::Write(_, value) => value.len(),
            Mutation::SetPermissions(_, permissions) => permissions.count().saturating_mul(4),
            Mutation::Mkdir(_) | Mutation::Remove(_) => 0,
        };
        self.remember(caller, payload, quotas)?;
        let result = self.view.apply(caller, &mutation, quotas).map(drop);
        self.log.push((mutation, result));
        result
    }

    /// Makes all of it true at once and says what changed. `EAGAIN`: another client was faster
    /// with something that this transaction touched; nothing was done.
    pub fn commit(
        self,
        caller: DomId,
        tree: &mut Tree,
        quotas: &Quotas,
    ) -> Result<Vec<Change>, Errno> {
        let version = |tree: &Tree, path| tree.get(path).map(|node| node.generation());
        if self.touched.iter().any(|path| version(&self.base, path) != version(tree, path)) {
            return Err(Errno::EAGAIN);
        }
        let mut next = tree.clone();
        let mut changes = Vec::new();
        for (mutation, told) in &self.log {
            match (next.apply(caller, mutation, quotas), told) {
                (Ok(change), Ok(())) => changes.extend(change),
                (Err(error), Err(told)) if error == *told => {}
                (Err(Errno::ENOSPC), _) => return Err(Errno::ENOSPC),
                // An ancestor went or has other permissions: the client shall see for itself.
                _ => return Err(Errno::EAGAIN),
            }
        }
        *tree = next;
        Ok(changes)
    }

    fn touch(&mut self, caller: DomId, path: &Path, quotas: &Quotas) -> Result<(), Errno> {
        if self.touched.contains(path) {
            return Ok(());
        }
        self.remember(caller, path.as_str().len(), quotas)?;
        self.touched.insert(path.clone());
        Ok(())
    }

    fn remember(&mut self, caller: DomId, bytes: usize, quotas: &Quotas) -> Result<(), Errno> {
        let size = self.size.saturating_add(bytes).saturating_add(ENTRY_OVERHEAD);
        if caller != DomId::DOM0 && size > quotas.transaction_size {
            return Err(quotas.exceed(Quota::TransactionSize));
        }
        self.size = size;
        Ok(())
    }
}
