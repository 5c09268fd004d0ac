use std::collections::BTreeMap;

use abi::{DomId, Gfn};
use proptest::prelude::*;

use super::*;
use crate::allocator::testing;

const OWNER: DomId = DomId(3);
/// Where the tests map: around a border between two tables at level 2, the last pages of the
/// space, and the first of the second table at level 1.
const BASES: [u64; 4] = [0, (1 << 18) - 512, (1 << 28) - 1024, 1 << 27];

fn kind() -> impl Strategy<Value = LeafKind> {
    prop_oneof![
        3 => Just(LeafKind::Ram),
        1 => Just(LeafKind::GrantWritable),
        1 => Just(LeafKind::GrantReadOnly),
        1 => Just(LeafKind::Device),
    ]
}

#[derive(Debug, Clone)]
enum Action {
    Map { gfn: u64, mfn: u64, order: u8, kind: LeafKind },
    Unmap { gfn: u64 },
}

fn gfn() -> impl Strategy<Value = u64> {
    (prop::sample::select(&BASES[..]), prop_oneof![0..1100u64, Just(0), Just(512)])
        .prop_map(|(base, offset)| base + offset)
}

fn action() -> impl Strategy<Value = Action> {
    let order = prop_oneof![3 => Just(0u8), 2 => Just(9), 1 => 1..9u8];
    let mfn = prop_oneof![0x4_0000..0x5_0000u64, (0x200..0x280u64).prop_map(|n| n * 512)];
    prop_oneof![
        1 => (gfn(), mfn, order, kind())
            .prop_map(|(gfn, mfn, order, kind)| Action::Map { gfn, mfn, order, kind }),
        1 => gfn().prop_map(|gfn| Action::Unmap { gfn }),
    ]
}

fn with_stage2(test: impl FnOnce(&mut FramePool, &mut Stage2)) {
    let mut pool = testing::pool(1500);
    assert!(pool.open_account(OWNER, 1 << 20));
    let free = pool.free();
    let mut stage2 = Stage2::new(&mut pool, OWNER).unwrap();
    test(&mut pool, &mut stage2);
    while stage2.dismantle(&mut pool) == Progress::More {}
    pool.sweep_overhead(OWNER);
    assert_eq!(pool.free(), free, "dismantling loses tables");
}

fn act(pool: &mut FramePool, stage2: &mut Stage2, model: &mut BTreeMap<u64, Leaf>, action: Action) {
    match action {
        Action::Map { gfn, mfn, order, kind } => {
            let range = gfn..gfn + (1 << order);
            let expected = if range.end > 1 << 28 {
                Err(MapError::OutOfRange)
            } else if model.range(range.clone()).next().is_some() {
                Err(MapError::Occupied)
            } else {
                Ok(())
            };
            assert_eq!(stage2.map(pool, Gfn(gfn), Mfn(mfn), order, kind), expected);
            if expected.is_ok() {
                model.extend(range.zip(mfn..).map(|(g, m)| (g, Leaf { mfn: Mfn(m), kind })));
            }
        }
        Action::Unmap { gfn } => {
            assert_eq!(stage2.unmap(pool, Gfn(gfn)), Ok(model.remove(&gfn)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_tables_say_what_was_mapped(actions in prop::collection::vec(action(), 1..40)) {
        with_stage2(|pool, stage2| {
            let mut model = BTreeMap::new();
            for action in actions {
                act(pool, stage2, &mut model, action);
            }
            for base in BASES {
                for gfn in base.saturating_sub(2)..base + 1700 {
                    assert_eq!(stage2.lookup(Gfn(gfn)), model.get(&gfn).copied(), "at {gfn:#x}");
                }
            }
        });
    }
}

#[test]
fn an_aligned_run_takes_one_table_until_a_page_of_it_changes() {
    with_stage2(|pool, stage2| {
        let tables = |pool: &FramePool| pool.account(OWNER).overhead;
        let before = tables(pool);
        stage2.map(pool, Gfn(1024), Mfn(512 * 7), 9, LeafKind::Ram).unwrap();
        assert_eq!(tables(pool), before + 1);
        let page = stage2.unmap(pool, Gfn(1024 + 3)).unwrap();
        assert_eq!(page, Some(Leaf { mfn: Mfn(512 * 7 + 3), kind: LeafKind::Ram }));
        assert_eq!(tables(pool), before + 2);
        for page in 0..512 {
            stage2.unmap(pool, Gfn(1024 + page)).unwrap();
        }
        stage2.map(pool, Gfn(1024), Mfn(512 * 9), 9, LeafKind::Ram).unwrap();
        assert_eq!(tables(pool), before + 1, "a block replaces the empty table");
    });
}

#[test]
fn a_failed_map_leaves_nothing() {
    with_stage2(|pool, stage2| {
        stage2.map(pool, Gfn(500 + 20), Mfn(1), 0, LeafKind::Device).unwrap();
        let result = stage2.map(pool, Gfn(500), Mfn(100), 5, LeafKind::Ram);
        assert_eq!(result, Err(MapError::Occupied));
        assert!((500..520).all(|gfn| stage2.lookup(Gfn(gfn)).is_none()));
        assert!(stage2.lookup(Gfn(520)).is_some());
    });
}

#[test]
fn tables_are_bounded_by_the_domains_budget() {
    with_stage2(|pool, stage2| {
        pool.set_max_frames(OWNER, 0);
        let scattered = (0..1024).map(|n| Gfn(n << 18));
        let mapped = scattered
            .take_while(|&gfn| stage2.map(pool, gfn, Mfn(1), 0, LeafKind::Ram).is_ok())
            .count();
        // Each takes two tables; the two at level 1 exist.
        assert_eq!(mapped as u64, (crate::allocator::frame::overhead_limit(0) - 2) / 2);
    });
}

#[test]
fn descriptors_are_what_the_architecture_says() {
    let page = |kind| descriptor::Descriptor::leaf(Leaf { mfn: Mfn(0x12345), kind }, Size::Page);
    // Normal write-back, inner shareable, accessed, read and write, executable, page.
    assert_eq!(page(LeafKind::Ram).bits() & !(0xF << 55), 0x1234_57FF);
    // The same, execute-never.
    assert_eq!(page(LeafKind::Foreign).bits() & !(0xF << 55), 0x0040_0000_1234_57FF);
    // Read-only.
    assert_eq!(page(LeafKind::GrantReadOnly).bits() & !(0xF << 55), 0x0040_0000_1234_577F);
    // Device-nGnRE, not shareable.
    assert_eq!(page(LeafKind::Device).bits() & !(0xF << 55), 0x0040_0000_1234_54C7);
}

#[test]
fn vttbr_names_the_tables_and_the_slot() {
    with_stage2(|_, stage2| {
        assert_eq!(stage2.vttbr() >> 48, 3);
        assert_eq!(stage2.vttbr() % 8192, 0, "concatenated tables are aligned to their size");
    });
}

#[test]
fn tables_go_when_they_are_empty() {
    with_stage2(|pool, stage2| {
        let free = pool.free();
        let mut map = |stage2: &mut Stage2, gfn, order| {
            stage2.map(pool, Gfn(gfn), Mfn(0x4_0000), order, LeafKind::Ram).unwrap();
            pool.free()
        };
        let (near, far, block) = (1 << 26, (1 << 26) + 1, 1 << 27);
        assert_eq!(map(stage2, near, 0), free - 2);
        assert_eq!(map(stage2, far, 0), free - 2);
        assert_eq!(map(stage2, block, MAX_ORDER), free - 3);
        stage2.unmap(pool, Gfn(near)).unwrap();
        assert_eq!(pool.free(), free - 3, "a page is left in the table");
        stage2.unmap(pool, Gfn(far)).unwrap();
        assert_eq!(pool.free(), free - 1);
        for page in block..block + BLOCK_FRAMES {
            stage2.unmap(pool, Gfn(page)).unwrap();
        }
        assert_eq!(pool.free(), free);
    });
}
