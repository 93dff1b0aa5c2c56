//! A draft reads as a map would: what is stored, with the changes over it.

use std::collections::BTreeMap;

use common::storage::engine::{Engine, MemoryEngine};
use proptest::prelude::*;

use super::*;

const SPACE: Keyspace = Keyspace("space");
const OTHER: Keyspace = Keyspace("other");

type Map = BTreeMap<Bytes, Bytes>;

fn key(number: u8) -> Bytes {
    Bytes::from(format!("{number:02}"))
}

/// Everything a scan shows, page by page, and that every page holds to the contract.
fn walk(draft: &Draft<'_>, range: &KeyRange, limit: PageLimit) -> Vec<(Bytes, Bytes)> {
    let mut all: Vec<(Bytes, Bytes)> = Vec::new();
    let mut range = range.clone();
    loop {
        let page = draft.scan(SPACE, &range, limit).unwrap();
        assert!(page.items.len() <= limit.items.max(1), "the page is over its limit");
        all.extend(page.items.iter().cloned());
        if !page.more {
            return all;
        }
        let (last, _) = page.items.last().expect("a page with more to come holds an item");
        range = range.after(last.clone());
    }
}

fn model(map: &Map, range: &KeyRange) -> Vec<(Bytes, Bytes)> {
    if range.is_empty() {
        return Vec::new();
    }
    let bounds = (range.start.clone(), range.end.clone());
    map.range(bounds).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn bound() -> impl Strategy<Value = Bound<Bytes>> {
    prop_oneof![
        Just(Bound::Unbounded),
        (0..40_u8).prop_map(|n| Bound::Included(key(n))),
        (0..40_u8).prop_map(|n| Bound::Excluded(key(n))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_draft_reads_like_a_map(
        stored in prop::collection::vec(0..40_u8, 0..30),
        changes in prop::collection::vec((0..40_u8, any::<Option<u8>>()), 0..40),
        start in bound(),
        end in bound(),
        items in 0..6_usize,
        bytes in prop_oneof![Just(1), Just(8), Just(1 << 20)],
    ) {
        let engine = MemoryEngine::volatile();
        let mut map = Map::new();
        let mut batch = Batch::new();
        for number in stored {
            batch.put(SPACE, key(number), "stored");
            map.insert(key(number), "stored".into());
        }
        engine.write(batch).unwrap();
        let mut draft = Draft::new(&engine);
        draft.put(OTHER, "05", "of another keyspace");
        for (number, change) in changes {
            if let Some(value) = change {
                draft.put(SPACE, key(number), vec![value]);
                map.insert(key(number), vec![value].into());
            } else {
                draft.delete(SPACE, key(number));
                map.remove(&key(number));
            }
        }
        for number in 0..40 {
            prop_assert_eq!(draft.get(SPACE, &key(number)).unwrap(), map.get(&key(number)).cloned());
        }
        let range = KeyRange { start, end };
        let limit = PageLimit { items, bytes };
        prop_assert_eq!(walk(&draft, &range, limit), model(&map, &range));

        engine.write(draft.into_batch()).unwrap();
        let all = engine.scan(SPACE, &KeyRange::all(), PageLimit { items: 100, bytes: 1 << 20 });
        prop_assert_eq!(all.unwrap().items, model(&map, &KeyRange::all()));
    }
}

#[test]
fn a_scan_goes_on_past_a_page_that_was_deleted() {
    let engine = MemoryEngine::volatile();
    let mut batch = Batch::new();
    for number in 0..10 {
        batch.put(SPACE, key(number), "stored");
    }
    engine.write(batch).unwrap();
    let mut draft = Draft::new(&engine);
    for number in 0..6 {
        draft.delete(SPACE, key(number));
    }
    let page = draft.scan(SPACE, &KeyRange::all(), PageLimit { items: 2, bytes: 1 << 20 }).unwrap();
    let keys: Vec<_> = page.items.into_iter().map(|(key, _)| key).collect();
    assert_eq!((keys, page.more), (vec![key(6), key(7)], true));
}

#[test]
fn changed_bytes_counts_every_change() {
    let engine = MemoryEngine::volatile();
    let mut draft = Draft::new(&engine);
    draft.put(SPACE, "key", "value");
    draft.put(SPACE, "key", "v");
    draft.delete(SPACE, "key");
    assert_eq!(draft.changed_bytes(), 8 + 4 + 3);
}
