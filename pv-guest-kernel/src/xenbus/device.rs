//! One end of a device: its directory, its state, and a view of the other end's.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::pin::pin;
use core::str::FromStr;
use core::time::Duration;

use abi::{DomId, Errno};
use futures_util::future::{Either, select};

use super::{Error, State};
use crate::time;
use crate::xenstore::{Client, Watch};

/// How long one end waits for the other before it says so.
const PATIENCE: Duration = Duration::from_secs(2);

/// One end of a device.
#[derive(Debug)]
pub struct Device {
    store: Client,
    path: String,
    peer_path: String,
    peer: DomId,
    state: Cell<State>,
    peer_state: Watch,
    /// In a backend: whether the toolstack still wants the device.
    online: Option<Watch>,
    /// Something has changed and has not been looked at.
    changed: Cell<bool>,
}

impl Device {
    /// The frontend's end: a directory such as `device/vbd/51712`. Starts the handshake anew.
    ///
    /// # Errors
    /// [`Error::Key`] if the directory does not name a backend.
    pub async fn frontend(store: &Client, path: &str) -> Result<Device, Error> {
        let device = Device::open(store, path, "backend").await?;
        // Whatever an earlier kernel left there.
        device.state.set(State::Closed);
        device.switch_state(State::Initialising).await?;
        Ok(device)
    }

    /// The backend's end: a directory such as `backend/vbd/5/51712`.
    ///
    /// # Errors
    /// [`Error::Key`] if the directory does not name a frontend.
    pub async fn backend(store: &Client, path: &str) -> Result<Device, Error> {
        let mut device = Device::open(store, path, "frontend").await?;
        let online = device.key("online");
        device.online = Some(store.watch(&online).await?);
        Ok(device)
    }

    /// `other` is what this end calls the other: the key with its path, and with its domain in
    /// `other-id`.
    async fn open(store: &Client, path: &str, other: &str) -> Result<Device, Error> {
        let peer_path: String = read(store, &format!("{path}/{other}")).await?;
        let peer = DomId(read(store, &format!("{path}/{other}-id")).await?);
        let state = State::parse(read::<String>(store, &format!("{path}/state")).await?.as_bytes());
        let peer_state = store.watch(&format!("{peer_path}/state")).await?;
        Ok(Device {
            store: store.clone(),
            path: path.to_string(),
            peer_path,
            peer,
            state: Cell::new(state),
            peer_state,
            online: None,
            changed: Cell::new(true),
        })
    }

    /// This end's directory.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The other end's domain.
    pub fn peer(&self) -> DomId {
        self.peer
    }

    /// This end's state.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Reads a key of this end's directory.
    ///
    /// # Errors
    /// [`Error::Key`]
    pub async fn read<T: FromStr>(&self, key: &str) -> Result<T, Error> {
        read(&self.store, &self.key(key)).await
    }

    /// Reads a key that the other end has published. The value is its claim, and no more.
    ///
    /// # Errors
    /// [`Error::Key`]
    pub async fn read_peer<T: FromStr>(&self, key: &str) -> Result<T, Error> {
        read(&self.store, &format!("{}/{key}", self.peer_path)).await
    }

    /// Reads a key that the other end need not publish.
    ///
    /// # Errors
    /// [`Error::Key`] if it is there and says what cannot be.
    pub async fn read_peer_optional<T: FromStr>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.read_peer(key).await {
            Ok(value) => Ok(Some(value)),
            Err(Error::Key { error: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the other end has published a key as a number that is not zero: that it can do
    /// something, or wants it.
    ///
    /// # Errors
    /// As for [`Device::read_peer_optional`].
    pub async fn peer_has(&self, key: &str) -> Result<bool, Error> {
        Ok(self.read_peer_optional::<u32>(key).await?.is_some_and(|value| value != 0))
    }

    /// Publishes keys and this end's next state in one step.
    ///
    /// # Errors
    /// [`Error::Removed`] if the directory is gone; [`Error::Step`] if the state does not follow.
    pub async fn publish(&self, keys: &[(&str, &str)], next: State) -> Result<(), Error> {
        let now = self.state.get();
        if !now.may_become(next) {
            return Err(Error::Step(now, next));
        }
        let state_key = self.key("state");
        let keys: Vec<_> = keys.iter().map(|(key, value)| (self.key(key), *value)).collect();
        let done = self.store.transaction(async |store| {
            // A directory that the toolstack has removed must not be made again.
            store.read(&state_key).await?;
            for (key, value) in &keys {
                store.write(key, value).await?;
            }
            store.write(&state_key, &next.raw().to_string()).await
        });
        match done.await {
            Ok(()) => {
                log::debug!("{self}: {now:?} -> {next:?}");
                self.state.set(next);
                Ok(())
            }
            Err(Errno::ENOENT) => Err(Error::Removed),
            Err(error) => Err(Error::Key { key: state_key, error }),
        }
    }

    /// Publishes this end's next state.
    ///
    /// # Errors
    /// As for [`Device::publish`].
    pub async fn switch_state(&self, next: State) -> Result<(), Error> {
        self.publish(&[], next).await
    }

    /// Waits until the other end is in one of these states.
    ///
    /// # Errors
    /// [`Error::Gone`] if it closes instead, [`Error::Removed`] if the device is taken away.
    pub async fn wait_peer(&self, wanted: &[State]) -> Result<State, Error> {
        self.wait_until(wanted, |state| state.is_going() || state == State::Unknown).await
    }

    /// The same for an other end that may still be on its way down from the last time.
    ///
    /// # Errors
    /// [`Error::Removed`] if the device is taken away.
    pub async fn wait_peer_return(&self, wanted: &[State]) -> Result<State, Error> {
        self.wait_until(wanted, |_| false).await
    }

    /// Waits for the end of the device's operation and returns how it ended.
    pub async fn ended(&self) -> Error {
        loop {
            match self.look().await {
                Ok(State::Initialised | State::Connected) => {}
                Ok(State::Reconfiguring | State::Reconfigured) => {}
                Ok(state) => return Error::Gone(state),
                Err(error) => return error,
            }
            self.change().await;
        }
    }

    /// Whether the toolstack has not begun to take the device away.
    pub(super) async fn is_wanted(&self) -> bool {
        self.online.is_none() || self.read::<u32>("online").await.is_ok_and(|online| online != 0)
    }

    /// In a frontend: whether the toolstack takes the device away, and not its backend for a while.
    pub(super) async fn peer_is_taken_away(&self) -> bool {
        matches!(self.read_peer_optional::<u32>("online").await, Ok(Some(0)))
    }

    /// Waits until the toolstack takes the device away.
    pub(super) async fn removed(&self) {
        while !matches!(self.look().await, Err(Error::Removed)) {
            self.change().await;
        }
    }

    /// Takes this end down as far as it is still there.
    pub(super) async fn close(&self) {
        for state in [State::Closing, State::Closed] {
            if let Err(error) = self.switch_state(state).await {
                log::debug!("{self}: cannot say that it is {state:?}: {error}");
                return;
            }
        }
    }

    /// The same after the other end, which is closing: Linux' frontends wait to see that this end
    /// does so, too, before they are closed.
    pub(super) async fn close_after_peer(&self) {
        if self.switch_state(State::Closing).await.is_ok() {
            let down = [State::Closed, State::Initialising, State::Unknown];
            let _ = self.wait_peer_return(&down).await;
        }
        if let Err(error) = self.switch_state(State::Closed).await {
            log::debug!("{self}: cannot say that it is closed: {error}");
        }
    }

    /// Tells the toolstack why the device does not work (as Linux's backends do).
    pub(super) async fn report(&self, error: &Error) {
        log::warn!("{self}: {error}");
        let written = self.store.transaction(async |store| {
            store.read(&self.key("state")).await?;
            store.write(&self.key("error"), &error.to_string()).await
        });
        if let Err(error) = written.await {
            log::debug!("{self}: the error is not in the store: {error}");
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    async fn wait_until(
        &self,
        wanted: &[State],
        hopeless: impl Fn(State) -> bool,
    ) -> Result<State, Error> {
        let mut patience = pin!(time::sleep(PATIENCE));
        let mut patient = true;
        loop {
            let state = self.look().await?;
            if wanted.contains(&state) {
                return Ok(state);
            }
            if hopeless(state) {
                return Err(Error::Gone(state));
            }
            let change = pin!(self.change());
            if !patient {
                change.await;
            } else if let Either::Right(_) = select(change, patience.as_mut()).await {
                patient = false;
                log::warn!(
                    "{self} ({:?}) waits for {} ({state:?}) of {} to be {wanted:?}",
                    self.state(),
                    self.peer_path,
                    self.peer,
                );
            }
        }
    }

    /// Waits until something may have changed. It may be dropped at any point: what it saw is
    /// kept until [`Device::look`] has looked.
    async fn change(&self) {
        if self.changed.get() {
            return;
        }
        let peer_state = pin!(self.peer_state.next());
        match &self.online {
            Some(online) => drop(select(peer_state, pin!(online.next())).await),
            None => drop(peer_state.await),
        }
        self.changed.set(true);
    }

    /// The other end's state, unless the device is being taken away.
    async fn look(&self) -> Result<State, Error> {
        if !self.is_wanted().await {
            return Err(Error::Removed);
        }
        let state = match self.store.read(&format!("{}/state", self.peer_path)).await {
            Ok(state) => State::parse(state.as_bytes()),
            Err(Errno::ENOENT) => State::Unknown,
            Err(error) => return Err(error.into()),
        };
        self.changed.set(false);
        Ok(state)
    }
}

impl core::fmt::Display for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.path)
    }
}

async fn read<T: FromStr>(store: &Client, key: &str) -> Result<T, Error> {
    store.read_as(key).await.map_err(|error| Error::Key { key: key.to_string(), error })
}
