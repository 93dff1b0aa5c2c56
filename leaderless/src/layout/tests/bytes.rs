//! Tokens, engine keys and layouts byte for byte.

use common::ids::{Incarnation, NodeId};
use proptest::prelude::*;

use super::{apart, cluster, factor, node};
use crate::golden;
use crate::layout::{
    Bits, Change, EngineKeyError, Fence, Key, Layout, LayoutError, Partition, PartitionSet, Token,
    decode_engine_key, engine_key,
};

/// Shows tokens, engine keys and layouts as they are on disk and wire.
#[test]
fn written_bytes_are_the_golden_ones() {
    let token =
        |route: &'static str, seed: u64| Key::plain(route).token(seed).0.to_be_bytes().to_vec();
    let key = Key::sorted(&b"a\0b"[..], &b"\0field"[..]);
    let stable = small();
    let moving = stable.begin(Change::Join(vec![node("eu", "r3", 50)])).unwrap().layout;
    let synced = moving.sync(&[Partition(3), Partition(9)].into_iter().collect(), &[].into());
    golden::check(
        include_str!("../../../golden/layout.v1.txt"),
        &[
            ("token-empty-0", token("", 0)),
            ("token-a-0", token("a", 0)),
            ("token-user:1-42", token("user:1", 42)),
            ("token-long-7", token("a route that is longer than sixteen bytes", 7)),
            ("engine-key", engine_key(key.token(42), &key)),
            ("layout-stable", stable.encode().to_vec()),
            ("layout-moving", moving.encode().to_vec()),
            ("layout-synced", synced.unwrap().encode().to_vec()),
        ],
    );
}

fn small() -> Layout {
    Layout::first(Bits::new(4).unwrap(), 42, apart(3), factor(&[("eu", 2)])).unwrap().0
}

#[test]
fn a_layout_that_contradicts_itself_is_refused() {
    let good = small();
    assert_eq!(Layout::decode(&good.encode()), Ok(good.clone()));
    let broken: [fn(&mut Layout); 6] = [
        |l| l.next_node = 2,
        |l| l.stewards.clear(),
        |l| {
            l.nodes.remove(&NodeId(1));
        },
        |l| {
            l.synced.insert(Partition(1));
        },
        |l| l.marks.base.0 = 9,
        |l| {
            l.unsynced.insert(NodeId(1), [Partition(16)].into_iter().collect());
        },
    ];
    for damage in broken {
        let mut layout = good.clone();
        damage(&mut layout);
        assert!(matches!(Layout::decode(&layout.encode()), Err(LayoutError::Invalid(_))));
    }
    assert!(matches!(Layout::decode(&good.encode()[..40]), Err(LayoutError::Codec(_))));
}

#[test]
fn a_removed_node_and_an_old_storage_are_refused_for_ever() {
    let first = cluster(apart(4), factor(&[("eu", 3)]));
    let mut layout = first.begin(Change::Leave(vec![NodeId(4)])).unwrap().layout;
    layout = layout.sync(&PartitionSet::all(layout.bits), &[].into()).unwrap().finish().unwrap();
    assert_eq!(
        layout.fence(NodeId(4), Incarnation(1)),
        Err(Fence::Removed { at_epoch: layout.epoch })
    );
    let joined = layout.begin(Change::Join(apart(1))).unwrap();
    assert_eq!(joined.joined, [NodeId(5)], "the id 4 is never given again");
    assert_eq!(
        layout.fence(NodeId(5), Incarnation(1)),
        Err(Fence::Unknown { epoch: layout.epoch })
    );
    let again = layout.reincarnate(NodeId(2), Incarnation(2), "new:1".into()).unwrap();
    let (found, current) = (Incarnation(1), Incarnation(2));
    assert_eq!(again.fence(NodeId(2), found), Err(Fence::OldIncarnation { found, current }));
    assert_eq!(again.fence(NodeId(2), current), Ok(()));
    assert!(again.reincarnate(NodeId(2), Incarnation(2), "new:1".into()).is_err());
}

#[test]
fn a_truncated_or_badly_escaped_engine_key_is_refused() {
    let key = engine_key(Token(1), &Key::plain("ab"));
    for cut in 0..key.len() {
        assert_eq!(decode_engine_key(&key[..cut]), Err(EngineKeyError::Truncated));
    }
    assert_eq!(decode_engine_key(b"12345678a\0b\0\0"), Err(EngineKeyError::Escape));
}

fn any_key() -> impl Strategy<Value = (u64, Key)> {
    let part =
        || proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..6);
    (0u64..3, part(), part()).prop_map(|(token, route, sort)| (token, Key::sorted(route, sort)))
}

proptest! {
    #[test]
    fn engine_keys_are_ordered_as_token_route_sort(a in any_key(), b in any_key()) {
        let (ea, eb) = (engine_key(Token(a.0), &a.1), engine_key(Token(b.0), &b.1));
        prop_assert_eq!(ea.cmp(&eb), a.cmp(&b));
        prop_assert_eq!(decode_engine_key(&ea), Ok((Token(a.0), a.1)));
    }

    #[test]
    fn a_partition_is_one_range_of_tokens(token in any::<u64>(), bits in 4u8..=16) {
        let bits = Bits::new(bits).unwrap();
        let partition = bits.partition(Token(token));
        prop_assert!(partition.0 < bits.partitions());
        prop_assert!(bits.tokens(partition).contains(&token));
        prop_assert!(!bits.tokens(Partition((partition.0 + 1) % bits.partitions())).contains(&token));
    }

    #[test]
    fn a_set_of_partitions_is_a_set(ops in proptest::collection::vec((0u32..300, any::<bool>()), 0..40)) {
        let (mut set, mut model) = (PartitionSet::default(), std::collections::BTreeSet::new());
        for (at, add) in ops {
            let partition = Partition(at);
            if add {
                prop_assert_eq!(set.insert(partition), model.insert(partition));
            } else {
                prop_assert_eq!(set.remove(partition), model.remove(&partition));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(&set, &model.iter().copied().collect::<PartitionSet>());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Layout::decode(&bytes);
        let _ = decode_engine_key(&bytes);
    }
}
