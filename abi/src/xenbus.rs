//! The handshake between a split driver's two ends (public/io/xenbus.h): each publishes its state
//! in the store and watches the other's.

crate::numbers! {
    /// What an end of a device says of itself, as a decimal number in its `state` key.
    pub enum State: u32 {
        /// No such key, or not a number.
        Unknown = 0,
        /// The toolstack made the directory.
        Initialising = 1,
        /// The backend waits for the frontend's details.
        InitWait = 2,
        /// The frontend has published its details.
        Initialised = 3,
        /// In operation.
        Connected = 4,
        /// Being taken down.
        Closing = 5,
        /// Down.
        Closed = 6,
        /// Changing while in operation.
        Reconfiguring = 7,
        /// Changed.
        Reconfigured = 8,
    }
}

impl State {
    /// Reads the value of a `state` key. What is not a known number is [`State::Unknown`].
    pub fn parse(text: &[u8]) -> State {
        core::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .and_then(State::from_raw)
            .unwrap_or(State::Unknown)
    }

    /// Whether an end that sees its peer in this state should take its own side down.
    pub const fn is_going(self) -> bool {
        matches!(self, State::Closing | State::Closed)
    }

    /// Whether an end may go from this state to `next`. Closing is possible from anywhere, and a
    /// closed end may start again.
    pub const fn may_become(self, next: State) -> bool {
        use State::*;
        matches!(
            (self, next),
            (_, Closing)
                | (_, Closed)
                | (Unknown | Closed | Initialising, Initialising)
                | (Initialising | Closed, InitWait)
                | (Initialising, Initialised | Connected)
                | (InitWait | Initialised, Connected)
                | (InitWait, Initialised)
                | (Connected, Reconfiguring)
                | (Reconfiguring, Reconfigured)
                | (Reconfigured, Connected)
        )
    }
}
