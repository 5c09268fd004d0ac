//! A learning bridge (IEEE 802.1D, clause 7): which station is behind which port.
//!
//! Stations are learned from what they send, so a hostile one can lie. What it can gain is bounded:
//! each port holds only so many stations and makes room at its own expense; the address that the
//! toolstack gave to a virtual interface belongs to that port alone; and no guest can take over a
//! station that was heard through the uplink.

use alloc::collections::BTreeMap;
use core::time::Duration;

use abi::net::MacAddress;

/// How long a station is remembered that is not heard of.
const AGE_MAX: Duration = Duration::from_secs(300);

/// A port, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortId(pub(super) u32);

impl PortId {
    /// The way out of the machine.
    pub(super) const UPLINK: PortId = PortId(0);
    /// dom0 itself.
    pub(super) const DOM0: PortId = PortId(1);

    /// Stations that are remembered behind it.
    fn capacity(self) -> usize {
        if self == PortId::UPLINK { 1024 } else { 32 }
    }
}

/// Where a frame is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To this port.
    To(PortId),
    /// To all but the one it came from.
    Flood,
    /// Its receiver is where it came from.
    Nowhere,
}

#[derive(Debug, Clone, Copy)]
struct Station {
    port: PortId,
    /// `None`: given by the toolstack, and never forgotten.
    heard: Option<Duration>,
}

impl Station {
    fn is_current(&self, now: Duration) -> bool {
        self.heard.is_none_or(|heard| now.saturating_sub(heard) < AGE_MAX)
    }

    /// Whether a station that is heard through `port` may be taken for one that has moved.
    fn may_move_to(&self, port: PortId, now: Duration) -> bool {
        let guarded = self.port == PortId::UPLINK && port != PortId::UPLINK;
        self.heard.is_some() && !(guarded && self.is_current(now))
    }
}

/// The table of stations.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    stations: BTreeMap<Key, Station>,
}

/// A hardware address as a number, which is compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

impl From<MacAddress> for Key {
    fn from(MacAddress([a, b, c, d, e, f]): MacAddress) -> Key {
        Key(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

impl Bridge {
    /// Ties an address to a port, for as long as that is there.
    pub(super) fn assign(&mut self, address: MacAddress, port: PortId) {
        self.stations.insert(address.into(), Station { port, heard: None });
    }

    /// Forgets all that is behind a port.
    pub(super) fn forget(&mut self, port: PortId) {
        self.stations.retain(|_, station| station.port != port);
    }

    /// A frame from `address` came through `port`.
    pub(super) fn learn(&mut self, address: MacAddress, port: PortId, now: Duration) {
        if address.is_multicast() {
            return;
        }
        match self.stations.get_mut(&address.into()) {
            Some(station) if station.port == port => {
                station.heard = station.heard.map(|_| now);
                return;
            }
            Some(station) if !station.may_move_to(port, now) => return,
            _ => {}
        }
        self.make_room(port);
        self.stations.insert(address.into(), Station { port, heard: Some(now) });
    }

    /// Where a frame to `address` that came through `from` is to go.
    pub(super) fn route(&self, address: MacAddress, from: PortId, now: Duration) -> Route {
        if address.is_multicast() {
            return Route::Flood;
        }
        match self.stations.get(&address.into()).filter(|station| station.is_current(now)) {
            Some(station) if station.port == from => Route::Nowhere,
            Some(station) => Route::To(station.port),
            None => Route::Flood,
        }
    }

    /// Forgets the station behind `port` that was not heard of for longest, if there are too many.
    fn make_room(&mut self, port: PortId) {
        let behind = || {
            let all = self.stations.iter().filter(|(_, station)| station.port == port);
            all.filter_map(|(address, station)| Some((station.heard?, *address)))
        };
        if behind().count() < port.capacity() {
            return;
        }
        if let Some((_, oldest)) = behind().min() {
            self.stations.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: PortId = PortId(2);
    const TWO: PortId = PortId(3);

    fn station(number: u32) -> MacAddress {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddress([2, 0, a, b, c, d])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn frames_go_where_their_receiver_was_heard() {
        let mut bridge = Bridge::default();
        let (a, b) = (station(1), station(2));
        bridge.learn(a, ONE, at(0));
        assert_eq!(bridge.route(b, ONE, at(0)), Route::Flood);
        bridge.learn(b, TWO, at(1));
        assert_eq!(bridge.route(a, TWO, at(1)), Route::To(ONE));
        assert_eq!(bridge.route(b, ONE, at(1)), Route::To(TWO));
        assert_eq!(bridge.route(b, TWO, at(1)), Route::Nowhere);
        assert_eq!(bridge.route(MacAddress([0xff; 6]), ONE, at(1)), Route::Flood);
        bridge.learn(a, TWO, at(2));
        assert_eq!(bridge.route(a, ONE, at(2)), Route::To(TWO), "it has moved");
        bridge.forget(TWO);
        assert_eq!(bridge.route(a, ONE, at(2)), Route::Flood);
    }

    #[test]
    fn a_silent_station_is_forgotten() {
        let mut bridge = Bridge::default();
        bridge.learn(station(1), ONE, at(0));
        bridge.learn(station(1), ONE, at(200));
        assert_eq!(bridge.route(station(1), TWO, at(499)), Route::To(ONE));
        assert_eq!(bridge.route(station(1), TWO, at(500)), Route::Flood);
    }

    #[test]
    fn an_assigned_address_stays_whoever_claims_it() {
        let mut bridge = Bridge::default();
        bridge.assign(station(1), ONE);
        for port in [TWO, PortId::UPLINK] {
            bridge.learn(station(1), port, at(1000));
        }
        assert_eq!(bridge.route(station(1), TWO, at(100_000)), Route::To(ONE));
    }

    #[test]
    fn what_was_heard_through_the_uplink_is_not_stolen() {
        let mut bridge = Bridge::default();
        bridge.learn(station(1), PortId::UPLINK, at(0));
        bridge.learn(station(1), ONE, at(299));
        assert_eq!(bridge.route(station(1), TWO, at(299)), Route::To(PortId::UPLINK));
        bridge.learn(station(1), ONE, at(300));
        assert_eq!(bridge.route(station(1), TWO, at(300)), Route::To(ONE), "it was silent");
        bridge.learn(station(1), PortId::UPLINK, at(300));
        assert_eq!(bridge.route(station(1), TWO, at(300)), Route::To(PortId::UPLINK));
    }

    proptest! {
        #[test]
        fn a_port_that_lies_displaces_only_its_own(
            lies in prop::collection::vec(100..1000_u32, 0..300),
        ) {
            let mut bridge = Bridge::default();
            bridge.assign(station(1), TWO);
            bridge.learn(station(2), TWO, at(0));
            bridge.learn(station(3), PortId::UPLINK, at(0));
            for &lie in &lies {
                bridge.learn(station(lie), ONE, at(1));
            }
            let behind = bridge.stations.values().filter(|station| station.port == ONE).count();
            prop_assert!(behind <= ONE.capacity());
            prop_assert_eq!(bridge.route(station(1), ONE, at(2)), Route::To(TWO));
            prop_assert_eq!(bridge.route(station(2), ONE, at(2)), Route::To(TWO));
            prop_assert_eq!(bridge.route(station(3), ONE, at(2)), Route::To(PortId::UPLINK));
            if let Some(&last) = lies.last() {
                prop_assert_eq!(bridge.route(station(last), TWO, at(2)), Route::To(ONE));
            }
        }
    }
}
