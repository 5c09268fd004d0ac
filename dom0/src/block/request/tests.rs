//! Requests that pass, and those that do not.

use abi::block::{DiscardRequest, IndirectRequest};
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { sectors: 1000, read_only: false, flush: true, discard: true };
const READ_ONLY: Limits = Limits { read_only: true, ..LIMITS };

fn request(operation: Operation, segments: u8) -> Request {
    Request { operation: operation.raw(), segments, ..Default::default() }
}

fn refusal(request: impl Into<Request>, limits: &Limits) -> Refusal {
    check(&request.into(), limits).unwrap_err()
}

fn indirect(operation: Operation, segments: u16) -> IndirectRequest {
    IndirectRequest {
        operation: Operation::Indirect.raw(),
        indirect_operation: operation.raw(),
        segments,
        ..Default::default()
    }
}

fn discard(sector: u64, sectors: u64) -> DiscardRequest {
    DiscardRequest { operation: Operation::Discard.raw(), sector, sectors, ..Default::default() }
}

#[test]
fn the_last_sector_is_on_the_disk_and_the_next_is_not() {
    assert_eq!(LIMITS.check_range(992, 8), Ok(()));
    let beyond = Refusal::BeyondEnd { sector: 993, count: 8 };
    assert_eq!(LIMITS.check_range(993, 8), Err(beyond));
    assert!(LIMITS.check_range(u64::MAX, 1).is_err());
    assert!(LIMITS.check_range(1, u64::MAX).is_err());
}

#[test]
fn each_mistake_is_named() {
    assert_eq!(refusal(request(Operation::Write, 1), &READ_ONLY), Refusal::ReadOnly);
    for count in [0, 12, 255] {
        let expected = Refusal::SegmentCount { count: count.into(), most: 11 };
        assert_eq!(refusal(request(Operation::Read, count), &LIMITS), expected);
    }
    assert_eq!(refusal(request(Operation::Flush, 1), &LIMITS), Refusal::FlushWithData(1));
    let unknown = Request { operation: 9, segments: 1, ..Default::default() };
    assert_eq!(refusal(unknown, &LIMITS), Refusal::NotSupported(9));
}

#[test]
fn what_was_not_offered_is_not_done() {
    let plain = Limits { flush: false, discard: false, ..LIMITS };
    assert_eq!(refusal(request(Operation::Flush, 0), &plain), Refusal::NotSupported(3));
    assert_eq!(refusal(discard(0, 1), &plain), Refusal::NotSupported(5));
}

#[test]
fn an_indirect_request_is_checked_like_a_direct_one() {
    let passes = check(&indirect(Operation::Read, 256).into(), &READ_ONLY);
    assert!(matches!(passes, Ok(Job::Transfer { direction: Direction::FromDisk, .. })));
    assert_eq!(refusal(indirect(Operation::Write, 1), &READ_ONLY), Refusal::ReadOnly);
    for count in [0, 257, u16::MAX] {
        let expected = Refusal::SegmentCount { count, most: 256 };
        assert_eq!(refusal(indirect(Operation::Read, count), &LIMITS), expected);
    }
    for operation in [Operation::Indirect, Operation::Flush, Operation::Discard] {
        let expected = Refusal::NotSupported(operation.raw());
        assert_eq!(refusal(indirect(operation, 1), &LIMITS), expected);
    }
}

#[test]
fn only_what_is_there_can_be_discarded() {
    assert!(matches!(check(&discard(990, 10).into(), &LIMITS), Ok(Job::Discard { .. })));
    let beyond = Refusal::BeyondEnd { sector: 990, count: 11 };
    assert_eq!(refusal(discard(990, 11), &LIMITS), beyond);
    assert_eq!(refusal(discard(0, 1), &READ_ONLY), Refusal::ReadOnly);
}

proptest! {
    #[test]
    fn what_passes_is_within_the_limits(
        bytes in prop::array::uniform32(any::<u8>()),
        operation in 0..8_u8,
        second in prop_oneof![0..20_u8, any::<u8>()],
        sector in prop_oneof![0..1100_u64, any::<u64>()],
        limits in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) {
        let (read_only, flush, discard) = limits;
        let limits = Limits { sectors: 1000, read_only, flush, discard };
        let mut request = Request { operation, segments: second, sector, ..Default::default() };
        request.handle = u16::from(bytes[0]) << 4;
        request.segment[0].reference = GrantRef(u32::from(bytes[1]) << 2);
        match check(&request, &limits) {
            Ok(Job::Transfer { direction, segments, .. }) => {
                prop_assert!(direction == Direction::FromDisk || !read_only);
                let (Segments::Direct { count, .. } | Segments::Indirect { count, .. }) = segments;
                prop_assert!((1..=256).contains(&count));
            }
            Ok(Job::Flush) => prop_assert!(flush),
            Ok(Job::Discard { sector, count }) => {
                prop_assert!(discard && !read_only && sector + count <= 1000);
            }
            Err(_) => {}
        }
    }
}

#[test]
fn a_response_names_what_an_indirect_request_carries() {
    assert_eq!(operation_done(&indirect(Operation::Write, 20).into()), Operation::Write.raw());
    assert_eq!(operation_done(&request(Operation::Read, 1)), Operation::Read.raw());
    assert_eq!(operation_done(&request(Operation::Flush, 0)), Operation::Flush.raw());
}
