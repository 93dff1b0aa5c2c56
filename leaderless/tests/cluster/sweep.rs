//! Seeds of faults: power losses, cuts in one and both directions, clocks an hour off, lost disks.
//! No acknowledged write is lost, no delete comes back, all replicas are equal after healing.
//!
//! A write is accounted for when its value is read at the end, or when a later write had seen it.
//! `TERCET_SEEDS=N` runs N seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use common::env::{Rng, SplitMix64};
use common::ids::NodeId;
use common::outcome::{HasOutcome, Outcome};
use leaderless::{ReadOptions, WriteOptions};

use crate::group::{Group, key, story, text};

/// One write: what it had seen is superseded by it.
struct Wrote {
    value: Option<String>,
    seen: BTreeSet<String>,
    outcome: Outcome,
}

const KEYS: u64 = 6;

async fn client(group: &Group, rng: &dyn Rng, id: u64, ledger: &mut BTreeMap<String, Vec<Wrote>>) {
    let running = group.running();
    let through = running[rng.below(running.len() as u64) as usize];
    let name = format!("k{}", rng.below(KEYS));
    let keys = group.keys(through);
    let mut read = ReadOptions::default();
    read.timeout = Duration::from_millis(600);
    let mut write = WriteOptions::default();
    write.timeout = Duration::from_millis(600);
    let mut seen = BTreeSet::new();
    let blind = rng.below(4) == 0;
    if !blind {
        let Ok(found) = keys.get(&key(&name), read).await else { return };
        seen = found.values.iter().map(|s| text(&s.value)).collect();
        write.context = Some(found.context);
    }
    let deletes = !blind && rng.below(3) == 0;
    let value = (!deletes).then(|| format!("v{id}"));
    let done = match &value {
        Some(value) => keys.put(&key(&name), Bytes::from(value.clone()), write).await,
        None => keys.delete(&key(&name), write).await,
    };
    let outcome = match done {
        Ok(_) => Outcome::Applied,
        Err(error) => error.outcome(),
    };
    ledger.entry(name).or_default().push(Wrote { value, seen, outcome });
}

async fn fault(group: &mut Group, rng: &dyn Rng, down: &mut Vec<NodeId>, disks: &mut u32) {
    let ids = group.ids();
    let pick = |rng: &dyn Rng| ids[rng.below(ids.len() as u64) as usize];
    let (one, other) = (pick(rng), pick(rng));
    match rng.below(9) {
        0 if down.is_empty() => {
            group.unplug(one);
            down.push(one);
        }
        1 => group.net.cut(one, other),
        2 => group.net.isolate(one),
        3 => group.jump(one, if rng.below(2) == 0 { 3_600_000 } else { -3_600_000 }),
        4 if down.is_empty() && *disks > 0 => {
            // Two copies of what was acknowledged exist: the others must be able to give theirs.
            group.net.heal_all();
            *disks -= 1;
            group.lose_disk(one);
            group.start(one).await;
            group.ready().await;
        }
        5 if down.is_empty() => {
            for id in &ids {
                group.unplug(*id);
            }
            for id in ids {
                group.start(id).await;
            }
        }
        6 => group.net.reset(one, other),
        _ => {
            group.net.heal_all();
            if let Some(id) = down.pop() {
                group.start(id).await;
            }
        }
    }
}

/// Runs one seed; what is wrong with it, if anything.
pub(crate) async fn run(seed: u64, steps: u64) -> Result<(), String> {
    let mut group = Group::started(3 + seed % 2, seed).await;
    let rng = SplitMix64::new(seed).stream("sweep");
    let mut ledger = BTreeMap::new();
    let (mut down, mut disks) = (Vec::new(), 2);
    for id in 0..steps {
        if rng.below(6) == 0 {
            fault(&mut group, &*rng, &mut down, &mut disks).await;
        }
        client(&group, &*rng, id, &mut ledger).await;
        if rng.below(3) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.below(700))).await;
        }
    }
    group.net.heal_all();
    for id in down {
        group.start(id).await;
    }
    if !group.settle().await {
        return Err(format!("seed {seed}: replicas do not settle"));
    }
    if group.ids().len() == 3 && !group.equal() {
        return Err(format!("seed {seed}: replicas differ at rest"));
    }
    for (name, writes) in &ledger {
        let mut answers = BTreeSet::new();
        for id in group.ids() {
            answers.insert(group.values(id, name).await);
        }
        if answers.len() != 1 {
            return Err(format!("seed {seed}: {name} is read as {answers:?}"));
        }
        let found: BTreeSet<String> = answers.into_iter().flatten().collect();
        let over = |sure: bool| -> BTreeSet<&String> {
            let counts = |w: &&Wrote| {
                w.outcome == Outcome::Applied || (!sure && w.outcome == Outcome::Unknown)
            };
            writes.iter().filter(counts).flat_map(|w| &w.seen).collect()
        };
        let (surely, maybe) = (over(true), over(false));
        for write in writes {
            let Some(value) = &write.value else { continue };
            let here = found.contains(value);
            if write.outcome == Outcome::Applied && !here && !maybe.contains(value) {
                return Err(format!("seed {seed}: {name} lost {value}"));
            }
            if here && surely.contains(value) {
                return Err(format!("seed {seed}: {name} has {value} again"));
            }
            if here && write.outcome == Outcome::NotApplied {
                return Err(format!("seed {seed}: {name} has {value}, which was not applied"));
            }
        }
    }
    let panics = group.panics();
    if panics.is_empty() { Ok(()) } else { Err(format!("seed {seed}: {panics:?}")) }
}

#[test]
fn nothing_acknowledged_is_lost_and_no_delete_comes_back() {
    let seeds = std::env::var("TERCET_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        story(|| async move { run(seed, 120).await.unwrap() });
    }
}
