//! An engine beside a sorted map that does the same.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Batch, Engine, Engines, Generation, KeyRange, Keyspace, Page, PageLimit, Read};
use super::Place;
use crate::env::Rng;

/// The keyspaces that steps use. Their names are prefixes of each other, to catch engines that
/// mix them up.
pub const KEYSPACES: [Keyspace; 3] = [Keyspace("a"), Keyspace("ab"), Keyspace("b")];

/// One thing to do, and to compare.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes a batch of (keyspace, key, new value or none).
    Write(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>),
    /// Opens a snapshot, and keeps it.
    Open,
    /// Compares one of the snapshots completely, and closes it.
    Close(usize),
    /// Reads a key, from the engine and from every snapshot.
    Get(usize, Vec<u8>),
    /// Reads a range in pages of so many items and bytes, from the engine and every snapshot.
    Scan(usize, KeyRange, PageLimit),
    /// Makes everything durable.
    Checkpoint,
    /// Drops all that is open and opens the place again.
    Restart,
    /// Fills a new generation with one batch and makes it the current one.
    Switch,
    /// Begins a new generation, and never makes it current.
    Unfinished,
}

type State = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

fn space(index: usize) -> Keyspace {
    KEYSPACES[index % KEYSPACES.len()]
}

fn expected(state: &State, at: usize, range: &KeyRange) -> Vec<(Bytes, Bytes)> {
    let at = at % KEYSPACES.len();
    let within = |key: &[u8]| {
        (match &range.start {
            Bound::Included(s) => key >= &s[..],
            Bound::Excluded(s) => key > &s[..],
            Bound::Unbounded => true,
        }) && (match &range.end {
            Bound::Included(e) => key <= &e[..],
            Bound::Excluded(e) => key < &e[..],
            Bound::Unbounded => true,
        })
    };
    let items = state.iter().filter(|((s, key), _)| *s == at && within(key));
    items.map(|((_, key), value)| (key.clone().into(), value.clone().into())).collect()
}

/// Reads a range page by page and checks the rules of pages on the way.
fn pages(
    mut scan: impl FnMut(&KeyRange) -> Page,
    range: &KeyRange,
    limit: PageLimit,
) -> Vec<(Bytes, Bytes)> {
    let (mut out, mut rest) = (Vec::new(), range.clone());
    loop {
        let page = scan(&rest);
        assert!(page.items.len() <= limit.items.max(1), "a page holds more items than its limit");
        let sizes = page.items.iter().map(|(k, v)| k.len() + v.len());
        let before_last: usize = sizes.take(page.items.len().saturating_sub(1)).sum();
        assert!(before_last <= limit.bytes, "a page goes on after its limit of bytes");
        assert!(!page.more || !page.items.is_empty(), "an empty page promises more");
        let last = page.items.last().map(|(key, _)| key.clone());
        out.extend(page.items);
        match (page.more, last) {
            (true, Some(last)) => rest = rest.after(last),
            _ => return out,
        }
    }
}

fn compare(read: &dyn Read, state: &State, what: &str) {
    let limit = PageLimit { items: 7, bytes: 1 << 20 };
    for (index, keyspace) in KEYSPACES.iter().enumerate() {
        let range = KeyRange::all();
        let found = pages(|r| read.scan(*keyspace, r, limit).unwrap(), &range, limit);
        assert_eq!(found, expected(state, index, &range), "{what}: keyspace {}", keyspace.0);
    }
}

/// An engine with its model.
struct Run<'a> {
    place: &'a dyn Place,
    engines: Arc<dyn Engines>,
    engine: Arc<dyn Engine>,
    generation: u64,
    state: State,
    /// What a restart may find: the states since the last checkpoint.
    possible: Vec<State>,
    snapshots: Vec<(Arc<dyn Read>, State)>,
}

/// Runs the steps on an empty place and compares every answer with the model's.
///
/// # Panics
/// When an answer differs.
pub async fn run(place: &dyn Place, steps: &[Step]) {
    let engines = place.open().await;
    assert!(engines.current().await.unwrap().is_none(), "a new place has no current engine");
    let engine = engines.create(Generation(1)).await.unwrap();
    engines.switch(Generation(1)).await.unwrap();
    let possible = vec![State::new()];
    let state = State::new();
    let snapshots = Vec::new();
    let mut run = Run { place, engines, engine, generation: 1, state, possible, snapshots };
    for step in steps {
        run = run.step(step).await;
    }
    compare(&*run.engine, &run.state, "at the end");
    for (snapshot, state) in &run.snapshots {
        compare(&**snapshot, state, "a snapshot at the end");
    }
    let names = run.engine.keyspaces().unwrap();
    assert!(names.is_sorted(), "keyspaces are sorted");
    for (index, _) in run.state.keys() {
        assert!(names.iter().any(|n| n == space(*index).0), "a keyspace with keys is listed");
    }
}

impl Run<'_> {
    async fn step(mut self, step: &Step) -> Self {
        match step {
            Step::Write(changes) => {
                let mut batch = Batch::new();
                for (at, key, value) in changes {
                    match value {
                        Some(value) => batch.put(space(*at), key.clone(), value.clone()),
                        None => batch.delete(space(*at), key.clone()),
                    }
                    let place = (at % KEYSPACES.len(), key.clone());
                    match value {
                        Some(value) => self.state.insert(place, value.clone()),
                        None => self.state.remove(&place),
                    };
                }
                self.engine.write(batch).unwrap();
                self.possible.push(self.state.clone());
            }
            Step::Open => {
                if self.snapshots.len() < 4 {
                    let snapshot = self.engine.snapshot().unwrap();
                    self.snapshots.push((snapshot, self.state.clone()));
                }
            }
            Step::Close(at) => {
                if !self.snapshots.is_empty() {
                    let at = at % self.snapshots.len();
                    let (snapshot, state) = self.snapshots.swap_remove(at);
                    compare(&*snapshot, &state, "a snapshot when it is closed");
                }
            }
            Step::Get(at, key) => {
                let keyspace = space(*at);
                let place = (at % KEYSPACES.len(), key.clone());
                let want = |state: &State| state.get(&place).map(|v| Bytes::from(v.clone()));
                assert_eq!(self.engine.get(keyspace, key).unwrap(), want(&self.state));
                for (snapshot, state) in &self.snapshots {
                    assert_eq!(snapshot.get(keyspace, key).unwrap(), want(state), "snapshot");
                }
            }
            Step::Scan(at, range, limit) => {
                let keyspace = space(*at);
                let engine = &self.engine;
                let found = pages(|r| engine.scan(keyspace, r, *limit).unwrap(), range, *limit);
                assert_eq!(found, expected(&self.state, *at, range));
                let named =
                    pages(|r| engine.scan_named(keyspace.0, r, *limit).unwrap(), range, *limit);
                assert_eq!(named, found, "scan_named");
                for (snapshot, state) in &self.snapshots {
                    let found =
                        pages(|r| snapshot.scan(keyspace, r, *limit).unwrap(), range, *limit);
                    assert_eq!(found, expected(state, *at, range), "snapshot");
                }
            }
            Step::Checkpoint => {
                self.engine.checkpoint().await.unwrap();
                self.possible = vec![self.state.clone()];
            }
            Step::Restart => {
                if self.place.survives() {
                    return self.restart().await;
                }
            }
            Step::Switch => self.switch().await,
            Step::Unfinished => self.unfinished().await,
        }
        self
    }

    async fn restart(self) -> Self {
        let Run { place, engines, engine, generation, possible, snapshots, .. } = self;
        drop((engine, snapshots, engines));
        let engines = place.open().await;
        let (found, engine) = engines.current().await.unwrap().expect("an engine is current");
        assert_eq!(found, Generation(generation), "the current generation survives");
        let state = dump(&*engine);
        assert!(
            possible.contains(&state),
            "after a restart the state is {state:?}, which it never was since the checkpoint"
        );
        let (possible, snapshots) = (vec![state.clone()], Vec::new());
        Run { place, engines, engine, generation, state, possible, snapshots }
    }

    async fn switch(&mut self) {
        let next = Generation(self.generation + 1);
        let engine = self.engines.create(next).await.unwrap();
        compare(&*engine, &State::new(), "a new generation");
        let mut batch = Batch::new();
        batch.put(KEYSPACES[0], "generation", next.0.to_be_bytes().to_vec());
        engine.write(batch).unwrap();
        self.engines.switch(next).await.unwrap();
        self.state = State::from([((0, b"generation".to_vec()), next.0.to_be_bytes().into())]);
        self.possible = vec![self.state.clone()];
        (self.engine, self.generation) = (engine, next.0);
        self.is_current().await;
    }

    async fn unfinished(&mut self) {
        let engine = self.engines.create(Generation(self.generation + 1)).await.unwrap();
        compare(&*engine, &State::new(), "a new generation");
        let mut batch = Batch::new();
        batch.put(KEYSPACES[0], "unfinished", "x");
        engine.write(batch).unwrap();
        self.is_current().await;
    }

    async fn is_current(&self) {
        let current = self.engines.current().await.unwrap().map(|(g, _)| g);
        assert_eq!(current, Some(Generation(self.generation)));
    }
}

fn dump(engine: &dyn Engine) -> State {
    let limit = PageLimit { items: 100, bytes: 1 << 20 };
    let mut state = State::new();
    for (index, keyspace) in KEYSPACES.iter().enumerate() {
        let scan = |r: &KeyRange| engine.scan(*keyspace, r, limit).unwrap();
        for (key, value) in pages(scan, &KeyRange::all(), limit) {
            state.insert((index, key.to_vec()), value.to_vec());
        }
    }
    state
}

/// Random steps: few keys, so that they meet.
pub fn random(rng: &dyn Rng, count: usize) -> Vec<Step> {
    let key = |rng: &dyn Rng| {
        let length = rng.below(3) as usize;
        (0..length).map(|_| [0, 1, b'a', 0xff][rng.below(4) as usize]).collect::<Vec<u8>>()
    };
    let bound = |rng: &dyn Rng| match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(Bytes::from(key(rng))),
        _ => Bound::Excluded(Bytes::from(key(rng))),
    };
    let step = |_| match rng.below(40) {
        0..14 => {
            let changes = (0..rng.below(6)).map(|_| {
                let value = (rng.below(3) > 0).then(|| {
                    let length = rng.below(40) as usize;
                    vec![rng.next_u64() as u8; length]
                });
                (rng.below(3) as usize, key(rng), value)
            });
            Step::Write(changes.collect())
        }
        14..18 => Step::Open,
        18..21 => Step::Close(rng.below(4) as usize),
        21..28 => Step::Get(rng.below(3) as usize, key(rng)),
        28..36 => {
            let range = KeyRange { start: bound(rng), end: bound(rng) };
            let limit = PageLimit { items: rng.below(5) as usize, bytes: rng.below(100) as usize };
            Step::Scan(rng.below(3) as usize, range, limit)
        }
        36..38 => Step::Checkpoint,
        38 => Step::Restart,
        _ if rng.below(2) == 0 => Step::Switch,
        _ => Step::Unfinished,
    };
    (0..count).map(step).collect()
}
