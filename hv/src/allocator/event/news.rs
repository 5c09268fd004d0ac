//! What sending an event has changed.

/// What has become of a port on which an event was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It is pending: its vCPU and those who poll are to hear of it.
    Pending,
    /// It is pending, but masked: those who poll are to hear of it.
    PendingMasked,
    /// It would be pending, but it has no bit yet.
    Unheard,
}

impl News {
    /// Of a port that has become pending.
    #[inline(always)]
    pub(super) fn pending(masked: bool) -> News {
        if masked { News::PendingMasked } else { News::Pending }
    }
}
