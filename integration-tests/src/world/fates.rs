//! What receipts say: asked of one node after the other while the run goes on, and of all at the end.
//!
//! An answer is final, so whoever is asked, and whenever, must say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::World;
use crate::strategy::{Place, Strategy};

/// How often receipts are shown to a node.
const EVERY: Duration = Duration::from_millis(500);
/// How long before the final reads every node is shown every receipt: what was acknowledged and
/// committed must be in those reads.
const BEFORE_FINAL: Duration = Duration::from_millis(400);

type Answers = Vec<Option<bool>>;

/// Shows receipts until the end of the run.
pub(super) async fn ask<S: Strategy>(world: Arc<World<S>>) {
    let config = &world.plan.config;
    let last = config.phases.heal + config.quiescence.saturating_sub(BEFORE_FINAL);
    let mut said: BTreeMap<String, bool> = BTreeMap::new();
    let mut turn = 0;
    while world.now() < last {
        let next = (world.now() + EVERY).min(last);
        world.sleep_until(next).await;
        let open = world.record(|r| r.unresolved());
        let places: Vec<Place> = world.open_nodes().into_keys().collect();
        let Some(place) = places.get(turn % places.len().max(1)).copied() else { continue };
        turn += 1;
        let receipts: Vec<String> = open.iter().map(|(_, receipt)| receipt.clone()).collect();
        let answers = of_node(&world, place, &receipts).await;
        for ((id, receipt), answer) in open.into_iter().zip(answers) {
            if let Some(committed) = answer {
                said.insert(receipt, committed);
                world.record(|r| r.resolved(world.now(), id, committed));
            }
        }
    }
    let receipts: Vec<String> = said.keys().cloned().collect();
    for place in well(&world) {
        let answers = of_node(&world, place, &receipts).await;
        for (receipt, answer) in receipts.iter().zip(answers) {
            if answer != said.get(receipt).copied() {
                let before = if said[receipt] { "committed" } else { "lost" };
                let claim = format!("{receipt}: said to be {before}, and {place} says {answer:?}");
                world.violated("fate", claim);
            }
        }
    }
    check_rollbacks(&world, &said).await;
    check_feeds(&world);
    world.count(|stats| stats.fates += said.len() as u64);
}

/// The nodes that are open and have not stopped by themselves.
fn well<S: Strategy>(world: &World<S>) -> Vec<Place> {
    let open = world.open_nodes().into_iter();
    open.filter(|(_, node)| world.strategy.failure(node).is_none())
        .map(|(place, _)| place)
        .collect()
}

/// Whether the rollback files hold what is said to be lost, and nothing that is not.
async fn check_rollbacks<S: Strategy>(world: &World<S>, said: &BTreeMap<String, bool>) {
    let places = well(world);
    let mut kept = BTreeSet::new();
    for place in &places {
        let Some((env, node)) = world.machine(*place).running() else { return };
        let strategy = world.strategy.clone();
        let files = env.spawn("rollbacks", async move { strategy.rolled_back(&node).await });
        kept.extend(files.await.unwrap_or_default());
    }
    let all: Vec<String> = kept.iter().cloned().collect();
    for place in &places {
        for (receipt, answer) in all.iter().zip(of_node(world, *place, &all).await) {
            if answer != Some(false) {
                let claim = format!("{receipt}: in a rollback file, and {place} says {answer:?}");
                world.violated("rollback", claim);
            }
        }
    }
    if places.len() < usize::from(world.plan.config.nodes) {
        return;
    }
    let lost = said.iter().filter(|(_, committed)| !**committed);
    for (receipt, _) in lost.filter(|(receipt, _)| !kept.contains(*receipt)) {
        world.violated("rollback", format!("{receipt}: lost, and in no rollback file"));
    }
    world.count(|stats| stats.rolled_back += all.len() as u64);
}

/// Whether the change feeds of all nodes are equal where they say that they are complete.
fn check_feeds<S: Strategy>(world: &World<S>) {
    let mut feeds = Vec::new();
    for place in well(world) {
        let Some((env, node)) = world.machine(place).running() else { continue };
        let feed = env.scope(async { world.strategy.feed(&node) }).now_or_never().flatten();
        feeds.extend(feed.map(|feed| (place, feed)));
    }
    for (number, (place, feed)) in feeds.iter().enumerate() {
        for (other_place, other) in &feeds[..number] {
            let common = feed.from.max(other.from)..feed.end.min(other.end);
            if common.is_empty() {
                continue;
            }
            world.count(|stats| stats.watched += common.end - common.start);
            let differs = common.clone().find(|i| feed.changes.get(i) != other.changes.get(i));
            if let Some(index) = differs {
                let (one, two) = (feed.changes.get(&index), other.changes.get(&index));
                let claim = format!(
                    "entry {index}: {place} tells {one:?}, and {other_place} tells {two:?}"
                );
                world.violated("feed", claim);
            }
        }
    }
}

/// What one node says, which may die over it.
async fn of_node<S: Strategy>(world: &World<S>, place: Place, receipts: &[String]) -> Answers {
    if receipts.is_empty() {
        return Vec::new();
    }
    let Some((env, node)) = world.machine(place).running() else { return Vec::new() };
    let (strategy, receipts) = (world.strategy.clone(), receipts.to_vec());
    let answers = env.spawn("fates", async move { strategy.resolve(&node, receipts).await });
    answers.await.unwrap_or_default()
}
