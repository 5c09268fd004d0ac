//! What the toolstack limits for each domain, beyond which a request of the domain's fails.

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Ports of event channels.
    EventChannels,
    /// Frames of the grant table.
    GrantFrames,
}

/// The quotas of which the log says that a domain has used them up: once each is enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamedQuotas(u8);

impl NamedQuotas {
    /// Notes a quota; returns whether it is news.
    pub fn insert(&mut self, quota: Quota) -> bool {
        let bit = 1 << quota as u8;
        let is_news = self.0 & bit == 0;
        self.0 |= bit;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_news_once() {
        let mut named = NamedQuotas::default();
        let mut news = |quota| named.insert(quota);
        assert!(news(Quota::GrantFrames) && news(Quota::EventChannels));
        assert!(!news(Quota::GrantFrames) && !news(Quota::EventChannels));
    }
}
