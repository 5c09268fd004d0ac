//! Whatever bytes a guest sends, it gets an answer in the protocol.

use std::vec::Vec;

use abi::{
    DomId,
    xenstore::{Header, MessageType, PAYLOAD_MAX},
};
use proptest::prelude::*;

use super::{Bench, split};

/// Payloads that come close to sense: strings that mean something somewhere, NULs, and noise.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"/".to_vec()),
        Just(b"device".to_vec()),
        Just(b"/local/domain/3".to_vec()),
        Just(b"@releaseDomain".to_vec()),
        Just(b"n3".to_vec()),
        Just(b"T".to_vec()),
        Just(b"7".to_vec()),
        Just(b"99999999999999999999999".to_vec()),
        Just(std::vec![0]),
        Just(std::vec![b'/'; 4000]),
        Just(b"/a".repeat(1500)),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| {
        let mut payload = pieces.concat();
        payload.truncate(PAYLOAD_MAX);
        payload
    })
}

proptest! {
    #[test]
    fn noise_is_answered(
        requests in proptest::collection::vec((0u32..26, 0u32..3, payload(), 0u16..4), 1..60),
    ) {
        let mut bench = Bench::new(&[1, 2, 3]);
        for (kind, transaction, payload, domain) in requests {
            let length = u32::try_from(payload.len()).unwrap();
            let header = Header { kind, request: 5, transaction, length };
            let message = bench.store.serve(DomId(domain), &header, &payload);
            let (answer, body) = split(&message);
            prop_assert!(answer.kind == kind || answer.kind == MessageType::Error.raw());
            prop_assert_eq!((answer.request, answer.transaction), (5, transaction));
            prop_assert!(body.len() <= PAYLOAD_MAX);
        }
    }
}

#[test]
fn malformed_requests_are_refused() {
    use abi::Errno::{EINVAL, ENOSYS};
    let mut bench = Bench::new(&[3]);
    let cases: [(MessageType, &[u8], abi::Errno); 12] = [
        (MessageType::Read, b"", EINVAL),
        (MessageType::Read, b"no-end", EINVAL),
        (MessageType::Read, b"a\0b\0", EINVAL),
        (MessageType::Read, b"\0", EINVAL),
        (MessageType::Write, b"no-end", EINVAL),
        (MessageType::Watch, b"a\0no-end", EINVAL),
        (MessageType::SetPerms, b"a\0", EINVAL),
        (MessageType::SetPerms, b"a\0n3", EINVAL),
        (MessageType::DirectoryPart, b"a\0-1\0", EINVAL),
        (MessageType::IsDomainIntroduced, b"32752\0", EINVAL),
        (MessageType::WatchEvent, b"a\0t\0", ENOSYS),
        (MessageType::Error, b"EIO\0", ENOSYS),
    ];
    for (kind, payload, error) in cases {
        assert_eq!(bench.raw(3, kind, 0, payload), Err(error), "{kind:?} {payload:?}");
    }
}
