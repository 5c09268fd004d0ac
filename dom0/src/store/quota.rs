//! How much of the store an ordinary domain may use. dom0 is trusted and not limited.
//!
//! A domain that wants more gets the error that Xen's store answers with, which does not name the
//! quota: so the log does, once for each quota that a domain runs into.

use alloc::{format, string::String};
use core::cell::Cell;

use abi::Errno;

/// What there is a quota of, beyond which requests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// [`Quotas::nodes`]
    Nodes,
    /// [`Quotas::bytes`]
    Bytes,
    /// [`Quotas::node_size`]
    NodeSize,
    /// [`Quotas::permissions`]
    Permissions,
    /// [`Quotas::watches`]
    Watches,
    /// [`Quotas::transactions`]
    Transactions,
    /// [`Quotas::transaction_size`]
    TransactionSize,
}

/// Limits for each ordinary domain. The defaults are Xen's where Xen has the limit.
#[derive(Debug, Clone)]
pub struct Quotas {
    /// Nodes that it may own (`ENOSPC`).
    pub nodes: usize,
    /// Bytes that the nodes which it owns may take, names and bookkeeping included (`ENOSPC`).
    pub bytes: usize,
    /// Bytes in the value of a node (`ENOSPC`), and in the path and token of a watch (`E2BIG`).
    pub node_size: usize,
    /// Entries in the permissions of a node (`ENOSPC`).
    pub permissions: usize,
    /// Watches (`E2BIG`).
    pub watches: usize,
    /// Transactions at the same time (`ENOSPC`).
    pub transactions: usize,
    /// Bytes that one transaction may remember: paths touched and values written (`ENOSPC`).
    pub transaction_size: usize,
    /// Watch events that may wait to be read; beyond it they are merged (no error).
    pub events: usize,
    /// The quota beyond which the last request failed, until somebody asks.
    pub exceeded: Cell<Option<Quota>>,
}

impl Quotas {
    /// Notes which quota was exceeded; returns the error for the one who did.
    pub fn exceed(&self, quota: Quota) -> Errno {
        self.exceeded.set(Some(quota));
        match quota {
            Quota::Watches => Errno::E2BIG,
            _ => Errno::ENOSPC,
        }
    }

    /// The quota, for people, and the way out.
    pub fn describe(&self, quota: Quota) -> String {
        match quota {
            Quota::Nodes => format!("{} nodes; it must remove some", self.nodes),
            Quota::Bytes => format!("{} bytes in all nodes; it must remove some", self.bytes),
            Quota::NodeSize => format!("{} bytes in one node; it must use several", self.node_size),
            Quota::Permissions => format!("{} permissions of one node", self.permissions),
            Quota::Watches => format!(
                "{} watches, of {} bytes each; it must remove some",
                self.watches, self.node_size
            ),
            Quota::Transactions => {
                format!("{} transactions at a time; it must end one", self.transactions)
            }
            Quota::TransactionSize => {
                format!(
                    "{} bytes in one transaction; it must do less in one",
                    self.transaction_size
                )
            }
        }
    }
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas {
            nodes: 1000,
            bytes: 512 << 10,
            node_size: 2048,
            permissions: 5,
            watches: 128,
            transactions: 10,
            transaction_size: 128 << 10,
            events: 256,
            exceeded: Cell::new(None),
        }
    }
}
