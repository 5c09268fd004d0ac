//! Being told of changes.

use alloc::string::{String, ToString};
use core::future::poll_fn;

use abi::Errno;
use abi::xenstore::MessageType;

use super::Client;
use super::session::{self, Shared, Token};

/// A watch on a path and all below it. The store forgets it when it is dropped.
#[derive(Debug)]
pub struct Watch {
    session: Shared,
    token: Token,
}

impl Client {
    /// Watches a path and all below it. The watch fires once at once, so that a task which looks
    /// after each [`Watch::next`] misses nothing.
    ///
    /// # Errors
    /// `EINVAL` for an impossible path, `E2BIG` beyond the domain's quota.
    pub async fn watch(&self, path: &str) -> Result<Watch, Errno> {
        let token = self.session.borrow_mut().add_watch(path.to_string());
        let watch = Watch { session: self.session.clone(), token };
        let name = token.to_string();
        let parts = [path.as_bytes(), b"\0", name.as_bytes(), b"\0"];
        session::exchange(&self.session, MessageType::Watch, 0, &parts).await?;
        Ok(watch)
    }
}

impl Watch {
    /// Waits for a change and returns the path that changed, in the form in which the watch was
    /// set (absolute or relative). Changes that nobody has asked for yet are merged: each path
    /// comes once, and too many paths become the watched one, which says "look at all of it".
    ///
    /// Never returns if the connection breaks.
    pub async fn next(&self) -> String {
        poll_fn(|context| self.session.borrow_mut().poll_event(self.token, context)).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut session = self.session.borrow_mut();
        if let Some(path) = session.remove_watch(self.token) {
            let name = self.token.to_string();
            let parts = [path.as_bytes(), b"\0", name.as_bytes(), b"\0"];
            session.tell(MessageType::Unwatch, 0, &parts);
        }
    }
}
