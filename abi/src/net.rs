//! The network protocol (public/io/netif.h): one ring for each direction. The frontend posts what
//! it sends on the one, and empty pages for what it will receive on the other.
//!
//! A frame takes one slot for each page that it touches. All but the last say [`MORE_DATA`]; the
//! first may be followed by slots that hold [`ExtraInfo`] instead, if it says [`EXTRA_INFO`].
//! Responses to received frames come in the order of the requests, which is how a frontend finds
//! the page of a slot that holds extra information.
//!
//! [`MORE_DATA`]: TxFlags::MORE_DATA
//! [`EXTRA_INFO`]: TxFlags::EXTRA_INFO

use core::fmt;
use core::str::FromStr;

use bitflags::bitflags;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{GrantRef, layout, numbers};

/// Slots that a backend takes for one frame at least (`XEN_NETIF_NR_SLOTS_MIN`), and ours at most;
/// without those of extra information.
pub const MAX_SLOTS: usize = 18;
/// Bytes of the longest frame: lengths have 16 bits.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// The store's keys by which the two ends agree.
pub mod key {
    /// Front: grant of the ring for what it sends.
    pub const TX_RING: &str = "tx-ring-ref";
    /// Front: grant of the ring for what it receives.
    pub const RX_RING: &str = "rx-ring-ref";
    /// Front: the port for events of both rings.
    pub const EVENT_CHANNEL: &str = "event-channel";
    /// Front, instead: the port for events of the first ring.
    pub const EVENT_CHANNEL_TX: &str = "event-channel-tx";
    /// And of the second.
    pub const EVENT_CHANNEL_RX: &str = "event-channel-rx";
    /// Back: either will do.
    pub const SPLIT_EVENT_CHANNELS: &str = "feature-split-event-channels";
    /// Back: how many pairs of rings there may be.
    pub const MAX_QUEUES: &str = "multi-queue-max-queues";
    /// Front: how many there are, one if it does not say. The keys of several are in directories
    /// `queue-0`, `queue-1` and so on.
    pub const NUM_QUEUES: &str = "multi-queue-num-queues";
    /// Front: the backend shall copy into the pages that were posted. Nothing else exists today.
    pub const REQUEST_RX_COPY: &str = "request-rx-copy";
    /// Back: it can.
    pub const RX_COPY: &str = "feature-rx-copy";
    /// Front: it wants events for what it receives.
    pub const RX_NOTIFY: &str = "feature-rx-notify";
    /// Either: frames of several slots may be sent to it.
    pub const SCATTER_GATHER: &str = "feature-sg";
    /// Either: TCP over IPv4 may be sent to it in frames that are still to be cut into segments.
    pub const GSO_TCPV4: &str = "feature-gso-tcpv4";
    /// Either: checksums of TCP and UDP over IPv4 must not be left blank towards it.
    pub const NO_CHECKSUM_OFFLOAD: &str = "feature-no-csum-offload";
    /// Front: its hardware address, which the toolstack chose.
    pub const MAC: &str = "mac";
}

bitflags! {
    /// Flags of what the frontend sends (`NETTXF_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct TxFlags: u16 {
        /// The transport's checksum field holds the sum of its pseudo-header only.
        const CHECKSUM_BLANK = 1;
        /// The data is known to be right: nobody needs to look at the checksum.
        const DATA_VALIDATED = 2;
        /// The frame goes on in the next slot.
        const MORE_DATA = 4;
        /// The next slot holds an [`ExtraInfo`].
        const EXTRA_INFO = 8;
    }
}

bitflags! {
    /// Flags of what the frontend receives (`NETRXF_*`). The first two are not in the order of
    /// [`TxFlags`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RxFlags: u16 {
        /// As [`TxFlags::DATA_VALIDATED`].
        const DATA_VALIDATED = 1;
        /// As [`TxFlags::CHECKSUM_BLANK`].
        const CHECKSUM_BLANK = 2;
        /// As [`TxFlags::MORE_DATA`].
        const MORE_DATA = 4;
        /// As [`TxFlags::EXTRA_INFO`].
        const EXTRA_INFO = 8;
    }
}

/// The frontend sends a part of a frame.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TxRequest {
    /// The page.
    pub reference: GrantRef,
    /// Where the part begins in it, in bytes.
    pub offset: u16,
    /// [`TxFlags`]
    pub flags: u16,
    /// Given back in the response.
    pub id: u16,
    /// Bytes: of the whole frame in its first slot, of the part in the others.
    pub size: u16,
}
layout!(TxRequest, 12, offset @ 4, flags @ 6, id @ 8, size @ 10);

/// The backend is done with a slot.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TxResponse {
    /// The request's.
    pub id: u16,
    /// [`TxStatus`]
    pub status: i16,
}
layout!(TxResponse, 4, status @ 2);

numbers! {
    /// What became of a slot that was sent (`XEN_NETIF_RSP_*`).
    pub enum TxStatus: i16 {
        /// Nobody wanted it, or there was no room.
        Dropped = -2,
        /// It could not be read.
        Error = -1,
        /// Sent.
        Okay = 0,
        /// The slot held extra information.
        Null = 1,
    }
}

/// The frontend posts an empty page.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RxRequest {
    /// Given back in the response.
    pub id: u16,
    /// Reserved.
    pub padding: u16,
    /// The page.
    pub reference: GrantRef,
}
layout!(RxRequest, 8, reference @ 4);

/// The backend has put a part of a frame into it.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RxResponse {
    /// The request's.
    pub id: u16,
    /// Where the part begins in the page, in bytes.
    pub offset: u16,
    /// [`RxFlags`]
    pub flags: u16,
    /// Bytes, or a [`TxStatus`] below zero.
    pub status: i16,
}
layout!(RxResponse, 8, offset @ 2, flags @ 4, status @ 6);

/// What a slot holds after one that says [`TxFlags::EXTRA_INFO`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtraInfo {
    /// [`ExtraKind`]
    pub kind: u8,
    /// 1 if another one follows.
    pub flags: u8,
    /// Of segmentation: bytes of payload in each segment but the last.
    pub segment_size: u16,
    /// Of segmentation: [`SEGMENT_TCPV4`], or another protocol.
    pub segment_kind: u8,
    /// Reserved.
    pub padding: u8,
    /// Of segmentation: none are defined.
    pub segment_features: u16,
}
layout!(ExtraInfo, 8, flags @ 1, segment_size @ 2, segment_kind @ 4, segment_features @ 6);

/// [`ExtraInfo::flags`]: another one follows.
pub const EXTRA_MORE: u8 = 1;
/// [`ExtraInfo::segment_kind`]: TCP over IPv4 (`XEN_NETIF_GSO_TYPE_TCPV4`).
pub const SEGMENT_TCPV4: u8 = 1;

numbers! {
    /// What extra information is about (`XEN_NETIF_EXTRA_TYPE_*`).
    pub enum ExtraKind: u8 {
        /// The frame is to be cut into segments.
        Segmentation = 1,
        /// The frontend wants a multicast address.
        MulticastAdd = 2,
        /// It does not want it any more.
        MulticastRemove = 3,
        /// The frame's hash.
        Hash = 4,
        /// Room that the receiver has left before the frame.
        Headroom = 5,
    }
}

impl ExtraInfo {
    /// TCP over IPv4 that is to be cut into segments of so many bytes of payload.
    pub const fn segmentation(segment_size: u16) -> ExtraInfo {
        ExtraInfo {
            kind: ExtraKind::Segmentation.raw(),
            flags: 0,
            segment_size,
            segment_kind: SEGMENT_TCPV4,
            padding: 0,
            segment_features: 0,
        }
    }

    /// Reads a slot of the ring for what the frontend sends.
    pub fn from_tx(slot: &TxRequest) -> ExtraInfo {
        ExtraInfo::read_from_prefix(slot.as_bytes()).map_or_else(|_| Self::default(), |(it, _)| it)
    }

    /// The slot that holds it on that ring.
    pub fn into_tx(self) -> TxRequest {
        let mut slot = TxRequest::new_zeroed();
        if let Some(place) = slot.as_mut_bytes().first_chunk_mut::<{ size_of::<Self>() }>() {
            *place = zerocopy::transmute!(self);
        }
        slot
    }

    /// Reads a slot of the ring for what the frontend receives.
    pub fn from_rx(slot: RxResponse) -> ExtraInfo {
        zerocopy::transmute!(slot)
    }

    /// The slot that holds it on that ring.
    pub fn into_rx(self) -> RxResponse {
        zerocopy::transmute!(self)
    }
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it stands for several stations, or all.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not six bytes in hexadecimal digits with colons in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMacAddress;

impl fmt::Display for NotAMacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a hardware address such as 00:16:3e:12:34:56")
    }
}

impl core::error::Error for NotAMacAddress {}

impl FromStr for MacAddress {
    type Err = NotAMacAddress;

    fn from_str(text: &str) -> Result<MacAddress, NotAMacAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let digits =
                |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts.next().filter(digits).ok_or(NotAMacAddress)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotAMacAddress)?;
        }
        if parts.next().is_some() { Err(NotAMacAddress) } else { Ok(MacAddress(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn extra_information_fits_both_rings() {
        let extra = ExtraInfo::segmentation(1448);
        assert_eq!(extra.as_bytes(), [1, 0, 0xa8, 5, 1, 0, 0, 0]);
        assert_eq!(ExtraInfo::from_tx(&extra.into_tx()).as_bytes(), extra.as_bytes());
        assert_eq!(ExtraInfo::from_rx(extra.into_rx()).as_bytes(), extra.as_bytes());
    }

    #[test]
    fn hardware_addresses_are_read_as_written() {
        let text = "00:16:3e:0a:ff:01";
        let address: MacAddress = text.parse().unwrap();
        assert_eq!(address.0, [0, 0x16, 0x3e, 0x0a, 0xff, 1]);
        assert_eq!(address.to_string(), text);
        assert!(!address.is_multicast());
        assert!("ff:ff:ff:ff:ff:ff".parse::<MacAddress>().unwrap().is_multicast());
        for text in [
            "",
            "00:16:3e:0a:ff",
            "00:16:3e:0a:ff:01:02",
            "0:16:3e:0a:ff:01",
            "00:16:3e:0a:ff:0g",
            "+0:16:3e:0a:ff:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
