//! The claims, one function each.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    Batch, Engine, EngineError, Engines, Generation, KeyRange, Keyspace, MAX_KEY, PageLimit,
};
use super::{NewPlace, Place, model};
use crate::env::SplitMix64;

const DATA: Keyspace = Keyspace("data");
const META: Keyspace = Keyspace("meta");

/// Runs every claim, each in a place of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn all(new: NewPlace<'_>) {
    a_batch_is_visible_when_write_returns(&*new()).await;
    the_last_change_of_a_key_in_a_batch_wins(&*new()).await;
    a_refused_batch_has_no_effect(&*new()).await;
    a_snapshot_stays_as_it_was(&*new()).await;
    pages_end_at_their_limits(&*new()).await;
    keyspaces_are_listed_by_name(&*new()).await;
    a_checkpoint_survives_a_restart(&*new()).await;
    a_switch_replaces_everything_at_once(&*new()).await;
    an_unfinished_generation_is_never_current(&*new()).await;
    a_former_generation_is_readable_until_its_last_reader_is_gone(&*new()).await;
    misuse_of_generations_changes_nothing(&*new()).await;
    concurrent_readers_see_whole_batches(&*new()).await;
    for seed in 0..8 {
        let steps = model::random(&SplitMix64::new(seed), 150);
        Box::pin(model::run(&*new(), &steps)).await;
    }
}

async fn first(place: &dyn Place) -> (Arc<dyn Engines>, Arc<dyn Engine>) {
    let engines = place.open().await;
    let engine = engines.create(Generation(1)).await.unwrap();
    engines.switch(Generation(1)).await.unwrap();
    (engines, engine)
}

fn put(engine: &dyn Engine, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(DATA, key.to_owned(), value.to_owned());
    engine.write(batch).unwrap();
}

#[expect(clippy::unnecessary_wraps, reason = "what `get` returns is compared with it")]
fn value(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from(text))
}

/// Another batch may follow at once; nothing has to be synced to be read.
pub async fn a_batch_is_visible_when_write_returns(place: &dyn Place) {
    let (_engines, engine) = first(place).await;
    let mut batch = Batch::new();
    batch.put(DATA, "k", "1");
    batch.put(META, "k", "2");
    batch.put(DATA, "", "the empty key");
    engine.write(batch).unwrap();
    engine.write(Batch::new()).unwrap();
    assert_eq!(engine.get(DATA, b"k").unwrap(), value("1"));
    assert_eq!(engine.get(META, b"k").unwrap(), value("2"), "keyspaces are apart");
    assert_eq!(engine.get(DATA, b"").unwrap(), value("the empty key"));
    assert_eq!(engine.get(Keyspace("none"), b"k").unwrap(), None);
    assert!(engine.size() > 0);
}

/// Also when it is a deletion, and when it is a value after a deletion.
pub async fn the_last_change_of_a_key_in_a_batch_wins(place: &dyn Place) {
    let (_engines, engine) = first(place).await;
    let mut batch = Batch::new();
    batch.put(DATA, "a", "1");
    batch.delete(DATA, "a");
    batch.put(DATA, "b", "1");
    batch.put(DATA, "b", "2");
    batch.delete(DATA, "c");
    batch.put(DATA, "c", "3");
    engine.write(batch).unwrap();
    assert_eq!(engine.get(DATA, b"a").unwrap(), None);
    assert_eq!(engine.get(DATA, b"b").unwrap(), value("2"));
    assert_eq!(engine.get(DATA, b"c").unwrap(), value("3"));
}

/// One key over the limit refuses the whole batch; the longest allowed one is stored.
pub async fn a_refused_batch_has_no_effect(place: &dyn Place) {
    let (_engines, engine) = first(place).await;
    let long = vec![b'x'; MAX_KEY];
    let mut batch = Batch::new();
    batch.put(DATA, "a", "1");
    batch.put(DATA, [&long[..], b"x"].concat(), "2");
    assert!(matches!(engine.write(batch), Err(EngineError::Refused(_))));
    assert_eq!(engine.get(DATA, b"a").unwrap(), None);
    let mut batch = Batch::new();
    batch.put(DATA, long.clone(), "3");
    engine.write(batch).unwrap();
    assert_eq!(engine.get(DATA, &long).unwrap(), value("3"));
    let mut batch = Batch::new();
    batch.put(Keyspace(""), "a", "1");
    assert!(matches!(engine.write(batch), Err(EngineError::Refused(_))));
}

/// Whatever is overwritten, removed or added later, and in whatever order snapshots end.
pub async fn a_snapshot_stays_as_it_was(place: &dyn Place) {
    let (_engines, engine) = first(place).await;
    put(&*engine, "k", "0");
    let mut snapshots = Vec::new();
    for round in 1..=20 {
        snapshots.push((round - 1, engine.snapshot().unwrap()));
        put(&*engine, "k", &round.to_string());
        if round % 3 == 0 {
            let mut batch = Batch::new();
            batch.delete(DATA, "k");
            engine.write(batch).unwrap();
        }
    }
    for (round, snapshot) in snapshots.iter().step_by(2).chain(snapshots.iter().rev()) {
        let deleted = *round % 3 == 0 && *round > 0;
        let expected = (!deleted).then(|| Bytes::from(round.to_string()));
        assert_eq!(snapshot.get(DATA, b"k").unwrap(), expected, "round {round}");
    }
}

/// At least one item, at most the limit, and the next page begins after the last item.
pub async fn pages_end_at_their_limits(place: &dyn Place) {
    let (_engines, engine) = first(place).await;
    for n in 0..10 {
        put(&*engine, &format!("k{n}"), "12345678");
    }
    let keys = |items: usize, bytes: usize, range: &KeyRange| {
        let page = engine.scan(DATA, range, PageLimit { items, bytes }).unwrap();
        let keys: Vec<_> = page.items.iter().map(|(k, _)| k[1] - b'0').collect();
        (keys, page.more)
    };
    let all = KeyRange::all();
    assert_eq!(keys(3, 1000, &all), (vec![0, 1, 2], true));
    assert_eq!(keys(3, 1000, &all.after("k7")), (vec![8, 9], false));
    assert_eq!(keys(0, 0, &all), (vec![0], true), "at least one item");
    assert_eq!(keys(100, 25, &all), (vec![0, 1, 2], true), "ends after its bytes are reached");
    assert_eq!(keys(100, 1000, &KeyRange::prefix("k4")), (vec![4], false));
    let (none, more) = keys(100, 1000, &KeyRange::from("l"));
    assert!(none.is_empty() && !more);
    let backwards = KeyRange {
        start: std::ops::Bound::Excluded("k5".into()),
        end: std::ops::Bound::Excluded("k5".into()),
    };
    assert_eq!(keys(100, 1000, &backwards), (vec![], false), "an empty range is no error");
}

/// A keyspace is made by its first write and stays when its last key is gone.
pub async fn keyspaces_are_listed_by_name(place: &dyn Place) {
    let (engines, engine) = first(place).await;
    assert!(engine.keyspaces().unwrap().is_empty());
    let mut batch = Batch::new();
    batch.put(META, "k", "1");
    batch.put(DATA, "k", "1");
    engine.write(batch).unwrap();
    let mut batch = Batch::new();
    batch.delete(DATA, "k");
    engine.write(batch).unwrap();
    assert_eq!(engine.keyspaces().unwrap(), ["data", "meta"]);
    engine.checkpoint().await.unwrap();
    drop((engine, engines));
    if place.survives() {
        let (_, engine) = place.open().await.current().await.unwrap().unwrap();
        assert_eq!(engine.keyspaces().unwrap(), ["data", "meta"]);
    }
}

/// What was checkpointed is there after a restart, and a second checkpoint replaces the first.
pub async fn a_checkpoint_survives_a_restart(place: &dyn Place) {
    let (engines, engine) = first(place).await;
    for round in 0..3 {
        put(&*engine, "k", &round.to_string());
        put(&*engine, &format!("k{round}"), "x");
        engine.checkpoint().await.unwrap();
    }
    let mut batch = Batch::new();
    batch.delete(DATA, "k0");
    engine.write(batch).unwrap();
    engine.checkpoint().await.unwrap();
    engine.checkpoint().await.unwrap();
    drop((engine, engines));
    if place.survives() {
        let (generation, engine) = place.open().await.current().await.unwrap().unwrap();
        assert_eq!(generation, Generation(1));
        assert_eq!(engine.get(DATA, b"k").unwrap(), value("2"));
        assert_eq!(engine.get(DATA, b"k0").unwrap(), None, "a removed key does not come back");
        assert_eq!(engine.get(DATA, b"k1").unwrap(), value("x"));
    }
}

/// After a restart, too.
pub async fn a_switch_replaces_everything_at_once(place: &dyn Place) {
    let (engines, former) = first(place).await;
    put(&*former, "old", "1");
    let next = engines.create(Generation(2)).await.unwrap();
    put(&*next, "new", "1");
    assert_eq!(engines.current().await.unwrap().unwrap().0, Generation(1));
    engines.switch(Generation(2)).await.unwrap();
    assert_eq!(engines.current().await.unwrap().unwrap().0, Generation(2));
    drop((former, next, engines));
    if place.survives() {
        let (generation, engine) = place.open().await.current().await.unwrap().unwrap();
        assert_eq!(generation, Generation(2));
        assert_eq!(engine.get(DATA, b"old").unwrap(), None);
        assert_eq!(engine.get(DATA, b"new").unwrap(), value("1"), "switch makes it durable");
    }
}

/// A crash while a snapshot is installed leaves the old state, and room to try again.
pub async fn an_unfinished_generation_is_never_current(place: &dyn Place) {
    let (engines, engine) = first(place).await;
    put(&*engine, "old", "1");
    engine.checkpoint().await.unwrap();
    let next = engines.create(Generation(2)).await.unwrap();
    put(&*next, "half", "1");
    next.checkpoint().await.unwrap();
    drop((engine, next, engines));
    if place.survives() {
        let engines = place.open().await;
        let (generation, engine) = engines.current().await.unwrap().unwrap();
        assert_eq!(generation, Generation(1));
        assert_eq!(engine.get(DATA, b"old").unwrap(), value("1"));
        let next = engines.create(Generation(2)).await.unwrap();
        assert_eq!(next.get(DATA, b"half").unwrap(), None, "the unfinished one was removed");
    }
}

/// A reader that began before the switch is not disturbed by it.
pub async fn a_former_generation_is_readable_until_its_last_reader_is_gone(place: &dyn Place) {
    let (engines, former) = first(place).await;
    put(&*former, "k", "1");
    let snapshot = former.snapshot().unwrap();
    engines.create(Generation(2)).await.unwrap();
    engines.switch(Generation(2)).await.unwrap();
    assert_eq!(former.get(DATA, b"k").unwrap(), value("1"));
    former.checkpoint().await.unwrap();
    drop(former);
    assert_eq!(snapshot.get(DATA, b"k").unwrap(), value("1"));
    let limit = PageLimit { items: 9, bytes: 999 };
    assert_eq!(snapshot.scan(DATA, &KeyRange::all(), limit).unwrap().items.len(), 1);
}

/// The current generation cannot be made anew, and one that was not created not be switched to.
pub async fn misuse_of_generations_changes_nothing(place: &dyn Place) {
    let (engines, engine) = first(place).await;
    put(&*engine, "k", "1");
    assert!(engines.create(Generation(1)).await.is_err());
    assert!(engines.switch(Generation(9)).await.is_err());
    let (generation, current) = engines.current().await.unwrap().unwrap();
    assert_eq!(generation, Generation(1));
    assert_eq!(current.get(DATA, b"k").unwrap(), value("1"));
}

/// While one thread writes, others never see half of a batch, nor an older one after a newer.
pub async fn concurrent_readers_see_whole_batches(place: &dyn Place) {
    const BATCHES: u64 = 300;
    let (_engines, engine) = first(place).await;
    let read = |key: &str, from: &dyn super::super::Read| {
        from.get(DATA, key.as_bytes())
            .unwrap()
            .map_or(0, |v| u64::from_be_bytes(*v.first_chunk().expect("values have eight bytes")))
    };
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut last = 0;
                while last < BATCHES {
                    let snapshot = engine.snapshot().unwrap();
                    let (a, b) = (read("a", &*snapshot), read("b", &*snapshot));
                    assert_eq!(a, b, "half of a batch");
                    assert!(a >= last, "an older state after a newer one");
                    last = a;
                    std::thread::yield_now();
                }
            });
        }
        for n in 1..=BATCHES {
            let mut batch = Batch::new();
            batch.put(DATA, "a", n.to_be_bytes().to_vec());
            batch.put(DATA, "b", n.to_be_bytes().to_vec());
            engine.write(batch).unwrap();
        }
    });
}
