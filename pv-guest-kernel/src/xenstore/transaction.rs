//! Several operations as one.

use abi::Errno;
use abi::xenstore::MessageType;

use super::wire::{self, TransactionId};
use super::{Client, session};

/// Attempts before a transaction gives up: somebody else must have changed what it touches each
/// time.
const ATTEMPTS: usize = 32;

impl Client {
    /// Runs `body` as one step: others see all of what it does through its argument, or nothing.
    /// It runs again if somebody else changed what it touched, so it must not keep anything.
    ///
    /// # Errors
    /// The body's, after which nothing has happened. `EAGAIN` if others interfere every time,
    /// `ENOSPC` if the domain has too many transactions.
    pub async fn transaction<T>(
        &self,
        body: impl AsyncFn(&Client) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        for _ in 0..ATTEMPTS {
            let open = Open::start(self).await?;
            let value = body(&open.view).await?;
            match open.commit().await {
                Err(Errno::EAGAIN) => continue,
                result => return result.map(|()| value),
            }
        }
        Err(Errno::EAGAIN)
    }
}

/// A transaction that the store knows. It is aborted on drop unless it was committed.
struct Open {
    view: Client,
    ended: bool,
}

impl Open {
    async fn start(client: &Client) -> Result<Open, Errno> {
        let answer = client.call(MessageType::TransactionStart, &[b"\0"]).await?;
        let transaction: TransactionId = wire::text(&answer)?.parse().map_err(|_| Errno::EIO)?;
        let view = Client { session: client.session.clone(), transaction };
        Ok(Open { view, ended: false })
    }

    async fn commit(mut self) -> Result<(), Errno> {
        self.ended = true;
        let Client { session, transaction } = &self.view;
        session::exchange(session, MessageType::TransactionEnd, *transaction, &[b"T\0"])
            .await
            .map(drop)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            let Client { session, transaction } = &self.view;
            session.borrow_mut().tell(MessageType::TransactionEnd, *transaction, &[b"F\0"]);
        }
    }
}
