//! How much of the store an ordinary domain may use. dom0 is trusted and not limited.

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
        }
    }
}
